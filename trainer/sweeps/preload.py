"""What all trials would make anew, made once by the process that they are forked from: it alone imports this."""

from trainer.config.root import Config
from trainer.config.yaml_composition import blank
from trainer.data.table import cache_key

blank(Config)
cache_key.sources(cache_key.LOADER)
