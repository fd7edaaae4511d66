"""A laboratory's own slides: what IHC and FISH say, how right calls are, which to send to IHC."""
