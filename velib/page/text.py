"""The words of the page in English and French, and how each language writes numbers and times."""

from datetime import datetime, tzinfo
from typing import Literal

from velib.page.health import Finding
from velib.runtime import printable

MAX_TEXT = 200  # characters that are shown of a text that others have written

TEXTS = {
    "en": {
        "title": "Vélib’ by postal code",
        "live": "live · snapshot of {time}, {age} old",
        "old": "no news · snapshot of {time}, {age} old",
        "no_totals": "waiting for the first totals",
        "theme": "Light or dark",
        "language": "Français",
        "bikes": "Bikes",
        "mechanical": "Mechanical",
        "ebike": "Electric",
        "ebike_short": "Electric",
        "docks": "Free docks",
        "fill": "How full",
        "stations_open": "Stations open",
        "stations_closed": "{n} closed",
        "empty_full": "Empty · full",
        "empty_full_note": "no bike · no dock",
        "change": "{n} since the last snapshot",
        "share": "{n} of the bikes",
        "map": "Map",
        "streets": "Streets",
        "unplaced": "Stations without a position: {n}",
        "zoom_hint": "Zoom in to see the stations",
        "shapes": "▼ empty   ■ full   ✕ closed",
        "table": "Postal codes",
        "search": "Search a place or code",
        "code": "Code",
        "place": "Place",
        "docks_short": "Docks",
        "full": "Full",
        "all": "All",
        "area_label": "{place}: {bikes} bikes ({mechanical} + {ebike}), {docks} docks, {fill}",
        "area_unknown": "{place}: no total",
        "place_summary": "{bikes} bikes ({ebike} electric) · {docks} docks · {stations} stations",
        "place_old": "not in the newest snapshot",
        "hours": "{n} h",
        "station_open": "open",
        "station_closed": "closed",
        "station_label": "{place}: {bikes} bikes, {docks} docks",
        "station_number": "{name}: {n}",
        "station_capacity": "{n} docks in all",
        "snapshot": "snapshot of {time}",
        "close": "Close",
        "health": "Health",
        "kafka": "Kafka",
        "feed": "Feed",
        "producer": "Producer",
        "job": "Spark job",
        "dead_letters": "Dead letters",
        "good": "fine",
        "warning": "look at it",
        "bad": "broken",
        "kafka_up": "answers",
        "kafka_away": "does not answer: what you see is what was known before",
        "unknown": "unknown while Kafka does not answer",
        "feed_fails": "cannot be read: {error}",
        "feed_empty": "no snapshot yet",
        "feed_moves": "a new snapshot every {seconds} s",
        "feed_unread": "not read since {since}",
        "feed_still": "stands still since {since}",
        "producer_still": "stands still: its last poll was at {since}",
        "producer_polls": "polled the feed {poll} ago",
        "producer_unseen": "has published nothing yet",
        "producer_published": "published {published} ago",
        "job_still": "stands still since {since}: {records} records wait",
        "job_unseen": "has written no total yet",
        "job_runs": "{records} records wait, last total {written} ago",
        "dead_letters_none": "none in 24 hours",
        "dead_letters_some": "{number} in 24 hours, most of them: {reason}",
        "last_dead_letters": "The last ones",
    },
    "fr": {
        "title": "Vélib’ par code postal",
        "live": "en direct · relevé de {time}, il y a {age}",
        "old": "rien de nouveau · relevé de {time}, il y a {age}",
        "no_totals": "en attente des premiers totaux",
        "theme": "Clair ou sombre",
        "language": "English",
        "bikes": "Vélos",
        "mechanical": "Mécaniques",
        "ebike": "Électriques",
        "ebike_short": "Élec.",
        "docks": "Bornes libres",
        "fill": "Remplissage",
        "stations_open": "Stations ouvertes",
        "stations_closed": "{n} fermées",
        "empty_full": "Vides · pleines",
        "empty_full_note": "aucun vélo · aucune borne",
        "change": "{n} depuis le dernier relevé",
        "share": "{n} des vélos",
        "map": "Carte",
        "streets": "Rues",
        "unplaced": "Stations sans position : {n}",
        "zoom_hint": "Zoomez pour voir les stations",
        "shapes": "▼ vide   ■ pleine   ✕ fermée",
        "table": "Codes postaux",
        "search": "Chercher un lieu ou un code",
        "code": "Code",
        "place": "Lieu",
        "docks_short": "Bornes",
        "full": "Plein",
        "all": "Total",
        "area_label": "{place} : {bikes} vélos ({mechanical} + {ebike}), {docks} bornes, {fill}",
        "area_unknown": "{place} : aucun total",
        "place_summary": (
            "{bikes} vélos ({ebike} électriques) · {docks} bornes · {stations} stations"
        ),
        "place_old": "absent du dernier relevé",
        "hours": "{n} h",
        "station_open": "ouverte",
        "station_closed": "fermée",
        "station_label": "{place} : {bikes} vélos, {docks} bornes",
        "station_number": "{name} : {n}",
        "station_capacity": "{n} bornes en tout",
        "snapshot": "relevé de {time}",
        "close": "Fermer",
        "health": "État",
        "kafka": "Kafka",
        "feed": "Flux",
        "producer": "Producteur",
        "job": "Job Spark",
        "dead_letters": "Rebuts",
        "good": "bon",
        "warning": "à voir",
        "bad": "en panne",
        "kafka_up": "répond",
        "kafka_away": "ne répond pas : vous voyez ce qui était connu avant",
        "unknown": "inconnu tant que Kafka ne répond pas",
        "feed_fails": "illisible : {error}",
        "feed_empty": "aucun relevé pour l’instant",
        "feed_moves": "un nouveau relevé toutes les {seconds} s",
        "feed_unread": "pas lu depuis {since}",
        "feed_still": "figé depuis {since}",
        "producer_still": "arrêté : il a lu le flux pour la dernière fois à {since}",
        "producer_polls": "a lu le flux il y a {poll}",
        "producer_unseen": "n’a encore rien publié",
        "producer_published": "a publié il y a {published}",
        "job_still": "arrêté depuis {since} : {records} enregistrements en attente",
        "job_unseen": "n’a encore écrit aucun total",
        "job_runs": "{records} enregistrements en attente, dernier total il y a {written}",
        "dead_letters_none": "aucun en 24 heures",
        "dead_letters_some": "{number} en 24 heures, le plus souvent : {reason}",
        "last_dead_letters": "Les derniers",
    },
}
"""The texts by language and name."""

LANGUAGES: dict[str, Literal["en-US", "fr"]] = {"en": "en-US", "fr": "fr"}
"""The languages of TEXTS, as NiceGUI and browsers name them."""


def preferred_language(accept_language: str) -> str:
    """The language of TEXTS that a browser's Accept-Language header prefers; `en` if none."""
    weights: dict[str, float] = {}
    for entry in accept_language.split(","):
        name, _, weight = entry.strip().partition(";q=")
        try:
            weights.setdefault(name[:2].lower(), float(weight or 1))
        except ValueError:
            continue
    return max(TEXTS, key=lambda language: (weights.get(language, 0.0), language == "en"))


class Words:
    """The texts of one language, with numbers and times put in as it writes them."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.zone: tzinfo | None = None
        """The reader's time zone; None for that of this machine."""

    def __call__(self, name: str, /, **values: object) -> str:
        """The text of this name, with `values` in their places."""
        return TEXTS[self.language][name].format(**values)

    def number(self, number: float) -> str:
        """A whole number with its thousands apart."""
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
        return f"{share * 100:.0f}" + ("\u202f%" if self.language == "fr" else "%")

    def time(self, epoch_seconds: float, now: float) -> str:
        """The time of day, with the date if that is another day's."""
        time, today = (datetime.fromtimestamp(t, self.zone) for t in (epoch_seconds, now))
        is_today = time.date() == today.date()
        return f"{time:%H:%M:%S}" if is_today else f"{time:%Y-%m-%d %H:%M:%S}"

    def age(self, seconds: float) -> str:
        """A span of time in the largest unit of which it has at least two."""
        days = "j" if self.language == "fr" else "d"
        for size, unit in ((86400, days), (3600, "h"), (60, "min")):
            if seconds >= 2 * size:
                return f"{seconds / size:.0f} {unit}"
        return f"{max(0, seconds):.0f} s"

    def sentence(self, finding: Finding, now: float) -> str:
        """A finding in words."""
        values: dict[str, str] = {}
        for name, value in finding.values.items():
            if isinstance(value, str):
                values[name] = readable(value)
            elif name == "since_at":
                values["since"] = self.time(value, now)
            elif name.endswith("_at"):
                values[name.removesuffix("_at")] = self.age(now - value)
            else:
                values[name] = self.number(value)
        return self(finding.sentence, **values)


def readable(text: str) -> str:
    """A text that others have written, as it may be shown: printable, and not endless."""
    return printable(text[:MAX_TEXT])
