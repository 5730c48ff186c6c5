"""Moto's server, with HSMs in its clusters: it has no operation that would make one.

On standard input comes one JSON object a line, {"cluster": ID, "hsms": [...]}, HSMs as
DescribeClusters answers them. On standard output goes the port, and a line for each that was done.
"""

import json
import sys

from moto.cloudhsmv2.models import cloudhsmv2_backends
from moto.server import ThreadedMotoServer

ACCOUNT, REGION = "123456789012", "ap-southeast-1"

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)

clusters = cloudhsmv2_backends[ACCOUNT][REGION].clusters
for line in sys.stdin:
    wanted = json.loads(line)
    if wanted["cluster"] not in clusters:
        backend = cloudhsmv2_backends[ACCOUNT][REGION]
        made = backend.create_cluster(None, "hsm2m.medium", None, ["subnet-1"], "DUALSTACK", None, "FIPS")
        cluster = clusters.pop(made["ClusterId"])
        # Moto's own IDs are none of CloudHSM's, and the protocol has seconds for a time, not text.
        cluster.cluster_id = wanted["cluster"]
        cluster.create_timestamp = cluster.create_timestamp.timestamp()
        clusters[cluster.cluster_id] = cluster
    clusters[wanted["cluster"]].hsms = wanted["hsms"]
    print("done", flush=True)
