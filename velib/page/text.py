"""The texts of the page in English and French, and how each language writes numbers and times."""

import calendar
import re
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from velib.runtime import local_time, printable
from velib.totals.records import COUNTS

PARIS = ZoneInfo("Europe/Paris")
"""The page's time zone, wherever its reader and its server are: the stations are in Paris."""

MAX_TEXT = 200  # characters that are shown of a text from a record

TEXTS = {
    "en": {
        "title": "Vélib’ by postal code",
        "live": "live · snapshot of {time}, {age} old",
        "old": "not updating · snapshot of {time}, {age} old",
        "past": "looking back · snapshot of {time}, {age} ago",
        "recorded": "Recorded: {time}",
        "no_totals": "waiting for the first totals",
        "theme": "Light or dark",
        "language": "Français",
        "clock": "Paris time",
        "fill": "How full",
        "short_num_bikes_available": "Bikes",
        "short_ebike": "Electric",
        "short_num_docks_available": "Docks",
        "short_fill": "Full",
        "stations_open": "Stations open",
        "stations_closed": "{n} closed",
        "empty_full": "Empty · full",
        "empty_full_explained": "no bikes · no free docks",
        "change": "{n} since the previous snapshot",
        "share": "{n} of all bikes",
        "live_only": "live only",
        "bikes_change": "Last hour",
        "change_since": "Change in the number of bikes since {time}, as a share of the docks",
        "change_unknown": "No earlier snapshot to compare with",
        "area_change": "{place} · bikes: {n}",
        "no_total": "no total",
        "player": "Looking back",
        "moment": "Snapshot shown",
        "play": "Play",
        "pause": "Pause",
        "speed": "{n} / s",
        "speed_name": "Snapshots per second",
        "go_live": "Live",
        "stations_live_only": "Stations are shown live only",
        "map": "Map",
        "streets": "Streets",
        "unplaced": "Stations without a position: {n}",
        "zoom_in": "Zoom in",
        "zoom_out": "Zoom out",
        "zoom_hint": "Zoom in to see the stations",
        "shapes": "▼ empty   ■ full   ✕ closed",
        "table": "Postal codes",
        "search": "Search for a place or code",
        "code": "Code",
        "place": "Place",
        "all": "All",
        "area_label": (
            "{place} · bikes: {bikes} ({mechanical} + {ebike}) · free docks: {docks} · {fill} full"
        ),
        "area_unknown": "{place}: no total",
        "place_summary": (
            "bikes: {bikes} ({ebike} electric) · free docks: {docks} · stations: {stations}"
        ),
        "place_old": "no total in this snapshot",
        "hours": "{n} h",
        "station_open": "open",
        "station_closed": "closed",
        "station_label": "{place} · bikes: {bikes} · free docks: {docks}",
        "station_number": "{name}: {n}",
        "station_capacity": "{n} docks in total",
        "snapshot": "snapshot of {time}",
        "close": "Close",
        "health": "Health",
        "kafka": "Kafka",
        "feed": "Feed",
        "producer": "Producer",
        "job": "Spark job",
        "dead_letters": "Dead letters",
        "good": "OK",
        "warning": "needs attention",
        "bad": "failed",
        "kafka_up": "answers",
        "kafka_away": "does not answer: showing the last known data",
        "unknown": "unknown while Kafka does not answer",
        "feed_empty": "no snapshot yet",
        "feed_moves": "a new snapshot every {seconds} s",
        "feed_old": "no new snapshot since {since}",
        "producer_none": "not running",
        "producer_one": "running, published {published} ago",
        "producer_several": "{number} running, published {published} ago",
        "producer_unknown": "published {published} ago",
        "producer_unseen": "nothing published yet",
        "job_stalled": "stalled since {since} · records waiting: {records}",
        "job_unseen": "no total written yet",
        "job_runs": "records waiting: {records}, last total {written} ago",
        "dead_letters_none": "none in the last 24 hours",
        "dead_letters_some": "{number} in the last 24 hours, mostly: {reason}",
        "last_dead_letters": "Latest dead letters",
    },
    "fr": {
        "title": "Vélib’ par code postal",
        "live": "en direct · relevé de {time}, il y a {age}",
        "old": "mises à jour interrompues · relevé de {time}, il y a {age}",
        "past": "retour en arrière · relevé de {time}, il y a {age}",
        "recorded": "Enregistré le {time}",
        "no_totals": "en attente des premiers totaux",
        "theme": "Clair ou sombre",
        "language": "English",
        "clock": "heure de Paris",
        "fill": "Remplissage",
        "short_num_bikes_available": "Vélos",
        "short_ebike": "Élec.",
        "short_num_docks_available": "Places",
        "short_fill": "Taux",
        "stations_open": "Stations ouvertes",
        "stations_closed": "fermées\u00a0: {n}",
        "empty_full": "Vides · pleines",
        "empty_full_explained": "sans vélo · sans place",
        "change": "{n} depuis le relevé précédent",
        "share": "soit {n} des vélos",
        "live_only": "en direct uniquement",
        "bikes_change": "Dernière heure",
        "change_since": "Variation du nombre de vélos depuis {time}, en part du nombre de places",
        "change_unknown": "Aucun relevé antérieur auquel comparer",
        "area_change": "{place} · vélos\u00a0: {n}",
        "no_total": "aucun total",
        "player": "Retour en arrière",
        "moment": "Relevé affiché",
        "play": "Lecture",
        "pause": "Pause",
        "speed": "{n}\u00a0/\u00a0s",
        "speed_name": "Relevés par seconde",
        "go_live": "En direct",
        "stations_live_only": "Les stations ne sont affichées qu’en direct",
        "map": "Carte",
        "streets": "Rues",
        "unplaced": "Stations non localisées\u00a0: {n}",
        "zoom_in": "Zoom avant",
        "zoom_out": "Zoom arrière",
        "zoom_hint": "Zoomez pour voir les stations",
        "shapes": "▼ vide   ■ pleine   ✕ fermée",
        "table": "Codes postaux",
        "search": "Chercher un lieu ou un code",
        "code": "Code",
        "place": "Lieu",
        "all": "Total",
        "area_label": (
            "{place} · vélos\u00a0: {bikes} ({mechanical} + {ebike})"
            " · places libres\u00a0: {docks} · remplissage\u00a0: {fill}"
        ),
        "area_unknown": "{place}\u00a0: aucun total",
        "place_summary": (
            "vélos\u00a0: {bikes} ({ebike} élec.) · places libres\u00a0: {docks}"
            " · stations\u00a0: {stations}"
        ),
        "place_old": "aucun total dans ce relevé",
        "hours": "{n}\u00a0h",
        "station_open": "ouverte",
        "station_closed": "fermée",
        "station_label": "{place} · vélos\u00a0: {bikes} · places libres\u00a0: {docks}",
        "station_number": "{name}\u00a0: {n}",
        "station_capacity": "{n} places en tout",
        "snapshot": "relevé de {time}",
        "close": "Fermer",
        "health": "État",
        "kafka": "Kafka",
        "feed": "Flux",
        "producer": "Producteur",
        "job": "Job Spark",
        "dead_letters": "Messages rejetés",
        "good": "OK",
        "warning": "à vérifier",
        "bad": "en panne",
        "kafka_up": "répond",
        "kafka_away": "ne répond pas\u00a0: affichage des dernières données connues",
        "unknown": "inconnu tant que Kafka ne répond pas",
        "feed_empty": "aucun relevé pour l’instant",
        "feed_moves": "un nouveau relevé toutes les {seconds}\u00a0s",
        "feed_old": "aucun nouveau relevé depuis {since}",
        "producer_none": "à l’arrêt",
        "producer_one": "en marche, dernière publication il y a {published}",
        "producer_several": "{number} en marche, dernière publication il y a {published}",
        "producer_unknown": "dernière publication il y a {published}",
        "producer_unseen": "aucune publication pour l’instant",
        "job_stalled": "bloqué depuis {since} · enregistrements en attente\u00a0: {records}",
        "job_unseen": "aucun total écrit pour l’instant",
        "job_runs": (
            "enregistrements en attente\u00a0: {records}, dernier total écrit il y a {written}"
        ),
        "dead_letters_none": "aucun en 24\u00a0heures",
        "dead_letters_some": "{number} en 24\u00a0heures, raison la plus fréquente\u00a0: {reason}",
        "last_dead_letters": "Derniers messages rejetés",
    },
}
"""The texts by language and name; the names of the counts are in velib/totals/records.py."""

for _name, _count in COUNTS.items():
    TEXTS["en"][_name], TEXTS["fr"][_name] = _count.english, _count.french

DAYS = {
    "en": tuple(calendar.day_name),  # in English unless the program sets a locale
    "fr": ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
}
MONTHS = {
    "en": tuple(calendar.month_name)[1:],
    "fr": (
        *("janvier", "février", "mars", "avril", "mai", "juin"),
        *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
    ),
}

LANGUAGES: dict[str, Literal["en-US", "fr"]] = {"en": "en-US", "fr": "fr"}
"""The languages of TEXTS, as NiceGUI and browsers name them."""


def preferred_language(accept_language: str) -> str:
    """The first language of TEXTS in a browser's Accept-Language header; `en` if none."""
    # Browsers list the languages in the order of preference.
    found = re.search(rf"(?:^|,)\s*({'|'.join(TEXTS)})\b", accept_language.lower())
    return found[1] if found else "en"


class Words:
    """The texts of one language, and numbers and times as it writes them."""

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, name: str, /, **values: object) -> str:
        """The text with this name, with `values` filled in."""
        return TEXTS[self.language][name].format(**values)

    def number(self, number: float) -> str:
        """A whole number with a separator between thousands."""
        separator = "\u202f" if self.language == "fr" else ","
        return f"{number:,.0f}".replace(",", separator)

    def change(self, number: int) -> str:
        """A number with its sign."""
        sign = "+" if number > 0 else "−" if number < 0 else "±"
        return sign + self.number(abs(number))

    def percent(self, share: float | None) -> str:
        """A share from 0 to 1; a dash for None."""
        if share is None:
            return "–"
        return f"{share * 100:.0f}".replace("-", "−") + (
            "\u202f%" if self.language == "fr" else "%"
        )

    def time(self, epoch_seconds: float, now: float) -> str:
        """The time of day in Paris, with the date if that is not today's."""
        date, time = local_time(epoch_seconds, PARIS).split(" ")
        if local_time(now, PARIS).startswith(date):
            return time
        day = self.date(date)
        return f"{time} le {day}" if self.language == "fr" else f"{day}, {time}"

    def date(self, iso_date: str) -> str:
        """A date such as 2024-11-07 with the names of its day and month."""
        date = datetime.fromisoformat(iso_date)
        day, month = DAYS[self.language][date.weekday()], MONTHS[self.language][date.month - 1]
        number = "1er" if self.language == "fr" and date.day == 1 else date.day
        return f"{day} {number} {month} {date.year}"

    def day_and_time(self, recorded_at: datetime) -> str:
        """A day and its time, to the minute, on the clock of Paris."""
        date, time = local_time(recorded_at.timestamp(), PARIS).split(" ")
        separator = " à " if self.language == "fr" else ", "
        return f"{self.date(date)}{separator}{time[:5]}"

    def age(self, seconds: float) -> str:
        """A duration in the largest unit of which it has at least two."""
        days, space = ("j", "\u00a0") if self.language == "fr" else ("d", " ")
        for size, unit in ((86400, days), (3600, "h"), (60, "min")):
            if seconds >= 2 * size:
                return f"{seconds / size:.0f}{space}{unit}"
        return f"{max(0, seconds):.0f}{space}s"


def readable(text: str) -> str:
    """A text from a record, safe to show: printable and shortened."""
    return printable(text[:MAX_TEXT])
