"""The filters a call passes, one file each. The order, with its reasons, is written in `gateway.app`."""
