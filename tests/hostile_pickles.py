"""Pickles that call, name or ask for what no checkpoint needs."""

import builtins
import importlib
import os
import shutil
import subprocess

import torch

from forged import Case, archive, called, named, tensor

PICKLES = (
    Case(
        "os_system.ckpt",
        "pickle that calls os.system",
        lambda p, m: called(p, os.system, f"touch {m}"),
    ),
    Case(
        "eval.ckpt",
        "pickle that calls builtins.eval",
        lambda p, m: called(p, builtins.eval, f"open({str(m)!r}, 'w')"),
    ),
    Case(
        "exec.ckpt",
        "pickle that calls builtins.exec",
        lambda p, m: called(p, builtins.exec, f"open({str(m)!r}, 'w')"),
    ),
    Case(
        "import.ckpt",
        "pickle that imports a module",
        lambda p, m: called(p, importlib.import_module, "antigravity"),
    ),
    Case(
        "popen.ckpt",
        "pickle that starts a process",
        lambda p, m: called(p, subprocess.Popen, ["touch", str(m)]),
    ),
    Case(
        "rmtree.ckpt", "pickle that deletes a folder", lambda p, m: called(p, shutil.rmtree, str(m))
    ),
    Case(
        "getattr.ckpt",
        "pickle that walks attributes with getattr",
        lambda p, m: called(p, getattr, "", "__class__"),
    ),
    Case(
        "hub.ckpt",
        "pickle that fetches code with torch.hub",
        lambda p, m: called(p, torch.hub.load, "someone/repository", "model"),
    ),
    Case(
        "load_from_bytes.ckpt",
        "pickle inside a pickle, through torch.storage",
        lambda p, m: called(p, torch.storage._load_from_bytes, b"cos\nsystem\n(S'true'\ntR."),
    ),
    Case(
        "dynamo.ckpt",
        "name out of `torch._dynamo`",
        lambda p, m: named(p, "torch._dynamo.decorators", "_DimRange"),
    ),
    Case("jit.ckpt", "name out of torch.jit", lambda p, m: named(p, "torch.jit", "load")),
    Case(
        "stack_global.ckpt",
        "newer pickle instructions that name functions",
        lambda p, m: archive(p, b"\x80\x04\x8c\x02os\x8c\x06system\x93."),
    ),
    Case(
        "inst.ckpt",
        "old pickle instructions that call",
        lambda p, m: archive(p, f"(S'touch {m}'\nios\nsystem\n.".encode()),
    ),
    Case(
        "extension.ckpt", "pickle extension registry", lambda p, m: archive(p, b"\x80\x02\x82\x01.")
    ),
    Case(
        "bare_pickle.ckpt",
        "pickle without an archive, calling os.system",
        lambda p, m: p.write_bytes(f"cos\nsystem\n(S'touch {m}'\ntR.".encode()),
    ),
    Case(
        "bytearray.ckpt",
        "an allowed name that takes 64 GB",
        lambda p, m: named(p, "builtins", "bytearray", b"\x8a\x05\0\0\0\0\x10\x85"),
    ),
    Case(
        "huge_tensor.ckpt",
        "an allowed tensor class of 10^12 numbers",
        lambda p, m: named(p, "torch", "FloatTensor", b"\x8a\x06\0\x10\xa5\xd4\xe8\0\x85"),
    ),
    Case(
        "meta_tensor.ckpt",
        "a tensor without a storage",
        lambda p, m: named(p, "torch._utils", "_rebuild_meta_tensor_no_storage"),
    ),
    Case(
        "wrapper_subclass.ckpt",
        "a tensor subclass of the file's choice",
        lambda p, m: named(p, "torch._utils", "_rebuild_wrapper_subclass"),
    ),
    Case(
        "numel.ckpt", "storage of 10^12 numbers on 16 bytes", lambda p, m: tensor(p, numel=10**12)
    ),
    Case("size.ckpt", "tensor larger than its storage", lambda p, m: tensor(p, size=(10**12,))),
    Case(
        "stride.ckpt", "strides that leave the storage", lambda p, m: tensor(p, stride=(1 << 40,))
    ),
    Case("offset.ckpt", "offset behind the storage", lambda p, m: tensor(p, offset=1 << 40)),
    Case("negative.ckpt", "negative offset", lambda p, m: tensor(p, offset=-8)),
    Case(
        "expanded.ckpt",
        "10^12 numbers by stride 0",
        lambda p, m: tensor(p, size=(10**12,), stride=(0,)),
    ),
    Case(
        "nan_size.ckpt", "a size that is not a number", lambda p, m: tensor(p, size=(float("nan"),))
    ),
    Case(
        "memo.ckpt",
        "memo index 2^31, room for which takes 32 GB",
        lambda p, m: archive(p, b"\x80\x02}r\xff\xff\xff\x7f."),
    ),
    Case(
        "flood.ckpt",
        "two million pickle instructions",
        lambda p, m: archive(p, b"\x80\x02](" + b"N" * (2 << 20) + b"e."),
    ),
    Case(
        "deep.ckpt",
        "lists nested 100000 deep",
        lambda p, m: archive(p, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    ),
    Case(
        "unhashable.ckpt", "a dict as the key of a dict", lambda p, m: archive(p, b"\x80\x02}}Ns.")
    ),
    Case(
        "underflow.ckpt",
        "pickle that takes more than it put",
        lambda p, m: archive(p, b"\x80\x02R."),
    ),
)
