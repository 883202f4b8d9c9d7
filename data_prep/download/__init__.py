"""PhysicalAI-AV from the Hugging Face Hub onto this disk: whole chunks, or single clips cut out of them.

    options ──▶ run ──▶ hub (who asks, which revision, what it holds) ──▶ tables (verified; read by NVIDIA's devkit)
                 │                                                              │
                 └──▶ choice (chunks, clips, features) ◀────────────────────────┘
                        ├─▶ whole_file   an archive: continued where it stopped, size and SHA-256 as the hub says
                        └─▶ clip_files   a clip: its members read out of the archive by range, CRC checked
                 ──▶ local_tables (features.csv, splits/, metadata/, last of all clip_index.parquet)

Every byte comes through `ranges`, every second try through `patience`.
"""
