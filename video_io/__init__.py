"""Frames by number and by time, in and out of files, zip members and picture folders. Owns the `av` library.

address ──▶ probe ──▶ decode ──▶ scale ──▶ clips (arrays for the model)
                                       └─▶ encode (small files)        remux, join (packets, not pixels)
"""

from video_io.address import check_crc, open_address
from video_io.clips import read_clip
from video_io.decode import decode_at, decode_frames, iter_frames
from video_io.decoders import DECODERS, check_decoder
from video_io.encode import VideoEncoder, write_video
from video_io.join import join_videos
from video_io.probe import VideoInfo, probe_video
from video_io.remux import check_copyable, copy_range
from video_io.scale import SCALER

__all__ = [
    "DECODERS",
    "SCALER",
    "VideoEncoder",
    "VideoInfo",
    "check_copyable",
    "check_crc",
    "check_decoder",
    "copy_range",
    "decode_at",
    "decode_frames",
    "iter_frames",
    "join_videos",
    "open_address",
    "probe_video",
    "read_clip",
    "write_video",
]
