"""Work on samples, independent of frames: conversion of rates, WAV files, voice activity, small operations on PCM.

Audio is `bytes` of signed 16-bit little-endian samples, channels interleaved, everywhere in this package.
"""
