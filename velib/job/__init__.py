"""What `spark.py` is made of.

To import this package before pyspark chooses the Spark of the job. `spark-submit` has chosen its
own. `python spark.py` runs on the pyspark that is installed with it, even if PYTHONPATH has the one
of another Spark, and on the Spark of SPARK_HOME, which must have the same version.
"""

import importlib
import sys
from importlib import metadata

import findspark

import config

if not config.under_spark_submit():
    sys.path.insert(0, str(metadata.distribution("pyspark").locate_file("")))
    importlib.import_module("pyspark")
    del sys.path[0]
    findspark.init()  # sets SPARK_HOME to the folder of this pyspark, unless it is set
