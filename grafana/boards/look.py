"""What a mode, a channel, a phase looks like on every board: the palette of the report (Okabe-Ito).

Blue, vermilion and green are the modes', here as in report.html, and nothing else has them.
"""

from grafana_foundation_sdk.models.dashboard import DataSourceRef

MODES = {"normal": "#0072b2", "additive": "#d55e00", "seeded": "#00805e"}

SKY, ORANGE, PURPLE, YELLOW, GREY = "#56b4e9", "#e69f00", "#cc79a7", "#f0e442", "#999999"

CHANNELS = {"flower": SKY, "unmask": ORANGE, "p2p": PURPLE}

# A part has its whole's colour: peers upload while the aggregator sees `train`, and agree while it
# sees `unmask`; the exchange is what goes from peer to peer.
PHASES = {
    "train": SKY,
    "evaluate": YELLOW,
    "unmask": ORANGE,
    "sum": GREY,
    "exchange": PURPLE,
    "ready": YELLOW,
    "upload": SKY,
    "agree": ORANGE,
}

OUTCOMES = {"complete": SKY, "void": ORANGE}

# As in provisioning/datasources/prometheus.yml.
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")

# Units, as Grafana names them. Bytes in powers of 1000, as in the report.
COUNT, SHARE, SECONDS, BYTES, BYTES_EACH_SECOND = "none", "percentunit", "s", "decbytes", "Bps"
CALLS_EACH_SECOND = "reqps"
TIMES = "suffix: ×"
AGO = "dateTimeFromNow"  # of milliseconds since the epoch
