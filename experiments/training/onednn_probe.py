"""Runs one oneDNN operation through the C interface of MXNet's library, whose path is the argument."""

import ctypes
import sys

CPU = 1   # MXNet's number for this device

mxnet = ctypes.CDLL(sys.argv[1])
shape = (ctypes.c_uint * 4)(1, 8, 8, 8)
source = ctypes.c_void_p()
mxnet.MXNDArrayCreate(shape, 4, CPU, 0, 0, ctypes.byref(source))

relu, count, results = ctypes.c_void_p(), ctypes.c_int(0), ctypes.POINTER(ctypes.c_void_p)()
mxnet.NNGetOpHandle(b"Activation", ctypes.byref(relu))
mxnet.MXImperativeInvoke(relu, 1, ctypes.byref(source), ctypes.byref(count), ctypes.byref(results), 1,
                         (ctypes.c_char_p * 1)(b"act_type"), (ctypes.c_char_p * 1)(b"relu"))
mxnet.MXNDArrayWaitToRead(ctypes.c_void_p(results[0]))
