"""Measurements that `streamdetect bench` and the tests share."""
