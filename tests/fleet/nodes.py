"""A cluster of three brokers, each node in a network namespace of its own.

The program that uses this runs in namespaces of its own (enter()): network, mounts, processes.
In there are two networks, each a bridge with a cable to each node: `front`, on which the sites
are 10.77.0.1 and the nodes 10.77.0.11 to 13, port 1883; and `back`, on which the nodes speak
with each other. So a cable can be pulled, each by itself, and nothing leaves the machine. What
is started ends with the program: its processes are in its namespace.
"""

import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from sites import rest

NODES = (1, 2, 3)
PORT = 1883


def enter():
    """The program again, alone in its namespaces."""
    if os.environ.get("FLUXBRIDGE_FLEET_INSIDE") != "1":
        os.environ["FLUXBRIDGE_FLEET_INSIDE"] = "1"
        root = [] if os.getuid() == 0 else ["--map-root-user"]
        os.execvp("unshare", ["unshare", *root, "--net", "--mount", "--pid", "--fork",
                              "--kill-child", "--mount-proc", sys.executable, "-B", *sys.argv])


def front(node):
    return "10.77.0.%d" % (10 + node)


def _run(*command):
    subprocess.run(command, check=True)


class Network:
    def __init__(self, directory):
        # Names: a node's on the back network, and the cluster's, with each node first once.
        path = os.path.join(directory, "hosts")
        with open(path, "w", encoding="utf-8") as file:
            file.write("127.0.0.1 localhost\n")
            file.writelines("10.78.0.%d n%d\n" % (10 + n, n) for n in NODES)
            for first in range(3):
                file.writelines("%s %s\n" % (front(NODES[(first + k) % 3]), cluster_name(first))
                                for k in range(3))
        _run("mount", "--bind", path, "/etc/hosts")
        _run("mount", "-t", "tmpfs", "none", "/run/netns")
        # Claims on batteries are files of the machine, by address; but here 127.0.0.1 is another.
        os.makedirs("/run/fluxbridge", exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", "mode=0700", "none", "/run/fluxbridge")
        _run("ip", "link", "set", "lo", "up")
        for net in ("front", "back"):
            _run("ip", "link", "add", net, "type", "bridge")
            _run("ip", "link", "set", net, "up")
        _run("ip", "address", "add", "10.77.0.1/24", "dev", "front")
        for node in NODES:
            space = "n%d" % node
            _run("ip", "netns", "add", space)
            _run("ip", "-n", space, "link", "set", "lo", "up")
            for net, number in (("front", 77), ("back", 78)):
                _run("ip", "link", "add", self.cable(net, node), "type", "veth", "peer", "name",
                     net, "netns", space)
                _run("ip", "link", "set", self.cable(net, node), "master", net, "up")
                _run("ip", "-n", space, "address", "add", "10.%d.0.%d/24" % (number, 10 + node),
                     "dev", net)
                _run("ip", "-n", space, "link", "set", net, "up")

    @staticmethod
    def cable(net, node):
        return "%s%d" % (net, node)

    def pull(self, net, node):
        _run("ip", "link", "set", self.cable(net, node), "down")

    def plug(self, net, node):
        _run("ip", "link", "set", self.cable(net, node), "up")


def cluster_name(first):
    """The name of all nodes, of which node `first` + 1 is the first."""
    return "cluster%d" % first


class Cluster:
    """What both have: nodes that are started, ended and killed, and are there when they take
    an MQTT session."""

    def __init__(self, directory):
        self.directory = directory
        self.processes = {}
        for node in NODES:
            os.makedirs(self.place(node))
            self.configure(node)

    def place(self, node, name=""):
        return os.path.join(self.directory, "n%d" % node, name)

    def start(self, *nodes):
        for node in nodes or NODES:
            command, more = self.command(node)
            with open(self.place(node, "output"), "ab") as output:
                self.processes[node] = subprocess.Popen(
                    ["nsenter", "--net=/run/netns/n%d" % node, "unshare", "--pid", "--fork",
                     "--kill-child", "--mount-proc", *command], env={**os.environ, **more},
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def found(self):
        self.start()
        self.wait()

    def wait(self, *nodes):
        end = time.monotonic() + 600
        for node in nodes or NODES:
            while not takes_sessions(front(node)):
                if time.monotonic() > end:
                    raise TimeoutError("node %d takes no session" % node)
                rest(0.5)

    def kill(self, *nodes):
        for node in nodes:
            self.processes[node].kill()  # and all that it has started
            self.processes[node].wait()

    def stop(self, *nodes):
        """In order, all at once."""
        for node in nodes or NODES:
            os.kill(self.server(self.processes[node].pid), signal.SIGTERM)
        for node in nodes or NODES:
            self.processes[node].wait()

    def server(self, pid):
        """The process that is the broker, below that one."""
        with open("/proc/%d/comm" % pid, encoding="ascii") as file:
            if file.read().strip() == self.COMM:
                return pid
        for path in glob.glob("/proc/%d/task/*/children" % pid):
            with open(path, encoding="ascii") as file:
                for child in file.read().split():
                    found = self.server(int(child))
                    if found is not None:
                        return found
        return None

    def logs(self):
        return glob.glob(self.place(0).replace("n0", "n*") + "*.log")


def takes_sessions(host):
    connect = (b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe")
    try:
        with socket.create_connection((host, PORT), timeout=2) as probe:
            probe.settimeout(10)
            probe.sendall(connect)
            return probe.recv(4) == b"\x20\x02\x00\x00"
    except OSError:
        return False


class Rabbit(Cluster):
    NAME, COMM = "RabbitMQ", "beam.smp"

    def found(self):
        """The first time: the second and third find a cluster that they can join."""
        for node in NODES:
            self.start(node)
            self.wait(node)
        # The queue of a subscription has its client's name: while its one node is down, that
        # client can subscribe at no other.
        _run("nsenter", "--net=/run/netns/n1", "env", "HOME=" + self.place(1),
             "RABBITMQ_CONF_ENV_FILE=/nonexistent", "/usr/lib/rabbitmq/bin/rabbitmqctl", "-q",
             "-n", "rabbit@n1", "set_policy", "mqtt", "^mqtt-subscription-.*qos1$",
             '{"ha-mode":"all"}', "--apply-to", "queues")

    def configure(self, node):
        with open(self.place(node, "rabbitmq.conf"), "w", encoding="utf-8") as file:
            file.write("listeners.tcp = none\nmqtt.listeners.tcp.1 = 0.0.0.0:%d\n"
                       "mqtt.allow_anonymous = true\nloopback_users.guest = false\n"
                       "mqtt.durable_queue_type = quorum\n"
                       "mqtt.prefetch = 100\n"
                       "mqtt.tcp_listen_options.nodelay = true\n"
                       "cluster_partition_handling = pause_minority\n"
                       "log.file.level = info\n"
                       "cluster_formation.peer_discovery_backend = classic_config\n" % PORT)
            file.writelines("cluster_formation.classic_config.nodes.%d = rabbit@n%d\n" % (n, n)
                            for n in NODES)
        with open(self.place(node, "enabled_plugins"), "w", encoding="ascii") as file:
            file.write("[rabbitmq_mqtt].\n")
        with open(self.place(node, ".erlang.cookie"), "w", encoding="ascii") as file:
            file.write("fleet")
        os.chmod(self.place(node, ".erlang.cookie"), 0o400)

    def command(self, node):
        return ["/usr/lib/rabbitmq/bin/rabbitmq-server"], {
            "HOME": self.place(node), "RABBITMQ_NODENAME": "rabbit@n%d" % node,
            "RABBITMQ_MNESIA_BASE": self.place(node, "mnesia"),
            "RABBITMQ_LOG_BASE": self.place(node),
            "RABBITMQ_CONFIG_FILE": self.place(node, "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.place(node, "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/nonexistent",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none"}


class Nats(Cluster):
    NAME, COMM = "NATS", "nats-server"

    def configure(self, node):
        with open(self.place(node, "nats.conf"), "w", encoding="utf-8") as file:
            file.write('server_name: n%d\nlisten: "127.0.0.1:4222"\nlog_file: "%s"\n'
                       'jetstream { store_dir: "%s" }\n'
                       'cluster { name: fleet, listen: "10.78.0.%d:6222", routes: [%s] }\n'
                       'mqtt { listen: "0.0.0.0:%d" }\n'
                       % (node, self.place(node, "nats.log"), self.place(node, "store"),
                          10 + node, ", ".join('"nats://n%d:6222"' % n for n in NODES), PORT))

    def command(self, node):
        return [shutil.which("nats-server") or "/usr/sbin/nats-server", "-c",
                self.place(node, "nats.conf")], {}
