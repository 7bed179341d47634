"""The bridge to the archive tables that districts keep already (一机一档): the same columns in Pinyin."""
