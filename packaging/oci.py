"""Makes an OCI image archive of one layer: oci.py LAYER.tar ARCH VERSION OUTPUT.tar

By the OCI image specification 1.0: image-layout.md, config.md, manifest.md.
"""

import hashlib
import io
import json
import os
import sys
import tarfile


def blob(archive, data):
    """Adds bytes, or a file's content; returns what a descriptor says of them."""
    digest = hashlib.sha256()
    if isinstance(data, bytes):
        size, file = len(data), io.BytesIO(data)
        digest.update(data)
    else:
        size, file = os.fstat(data.fileno()).st_size, data
        while chunk := data.read(1 << 20):
            digest.update(chunk)
        data.seek(0)
    entry = tarfile.TarInfo("blobs/sha256/" + digest.hexdigest())
    entry.size = size
    archive.addfile(entry, file)
    return {"digest": "sha256:" + digest.hexdigest(), "size": size}


def document(archive, name, content):
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def main(layer_path, architecture, version, output):
    kind = "application/vnd.oci.image."
    with tarfile.open(output, "w") as archive, open(layer_path, "rb") as file:
        layer = blob(archive, file)
        config = blob(archive, json.dumps({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "User": "fluxbridge",
                "Entrypoint": ["/usr/bin/fluxbridge"],
                "Cmd": ["run", "-c", "/etc/fluxbridge/fluxbridge.cfg"],
                "Env": ["PATH=/usr/bin:/bin"],
                "Volumes": {"/var/lib/fluxbridge": {}},
                "StopSignal": "SIGTERM",
                "Labels": {"org.opencontainers.image.title": "fluxbridge",
                           "org.opencontainers.image.version": version},
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }).encode())
        manifest = blob(archive, json.dumps({
            "schemaVersion": 2,
            "mediaType": kind + "manifest.v1+json",
            "config": {"mediaType": kind + "config.v1+json", **config},
            "layers": [{"mediaType": kind + "layer.v1.tar", **layer}],
        }).encode())
        document(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        document(archive, "index.json", {
            "schemaVersion": 2,
            "manifests": [{"mediaType": kind + "manifest.v1+json", **manifest,
                           "annotations": {
                               "org.opencontainers.image.ref.name": "fluxbridge:" + version}}],
        })


if __name__ == "__main__":
    main(*sys.argv[1:])
