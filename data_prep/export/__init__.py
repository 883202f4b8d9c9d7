"""A finished dataset in the forms that other tools read, one file a format behind one interface.

    training folder | dataset folder ──rows──▶ records and their truth ──<format>.write──▶ files + README.md + manifest
                                                       └──media──▶ videos named, copied or packed

Everything is streamed: never more than some thousand rows, or one shard's names, are in memory.
"""
