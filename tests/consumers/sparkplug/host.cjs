// A small Sparkplug host on npm's mqtt and sparkplug-payload: keeps the births of every node,
// and what each metric has been since. Says on stderr, a JSON text a line, what it heard and
// what it objects to; asks who made no sense for a rebirth, as hosts do.
//
//     host.cjs PORT [HOST_ID]
//
// With HOST_ID it is a primary host, whose STATE it tells. A line on stdin is a message to be
// sent: {"type":"DCMD","node":…,"device":…,"metrics":[{name|alias, type, value}]}.
'use strict';
const mqtt = require('mqtt');
const readline = require('readline');
const spb = require('sparkplug-payload').get('spBv1.0');
const { Payload } = require('sparkplug-payload/lib/sparkplugPayloadProto').org.eclipse.tahu.protobuf;

const GROUP = 'flux';
const [port, hostId] = process.argv.slice(2);
const state = `spBv1.0/STATE/${hostId}`;
const nodes = new Map(); // node -> {seq, bdSeq, devices: device -> {alias -> {name, type}}}
const say = (what) => process.stderr.write(JSON.stringify(what) + '\n');
const text = (online) => JSON.stringify({ online, timestamp: Date.now() });

const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
  clientId: `host-${process.pid}`,
  clean: true,
  protocolVersion: 5,
  will: hostId && { topic: state, payload: text(false), qos: 1, retain: true },
});
client.on('connect', () => client.subscribe('spBv1.0/#', { qos: 0 }, () => {
  if (hostId) client.publish(state, text(true), { qos: 1, retain: true });
  say({ ready: true });
}));

function object(node, why) {
  say({ objection: why, node });
  send('NCMD', node, null, [{ name: 'Node Control/Rebirth', type: 'Boolean', value: true }]);
}

function send(type, node, device, metrics) {
  const topic = `spBv1.0/${GROUP}/${type}/${node}` + (device ? `/${device}` : '');
  const timestamp = Date.now();
  const payload = { timestamp, metrics: metrics.map((m) => ({ timestamp, ...m })) };
  client.publish(topic, Buffer.from(spb.encodePayload(payload)), { qos: 0 });
}

// Data has no datatypes: those of the births are put in before it is taken apart.
function decode(bytes, known) {
  const raw = Payload.decode(bytes);
  for (const metric of raw.metrics) {
    if (!Object.hasOwn(metric, 'datatype')) {
      const birth = known && known.get(String(metric.alias));
      if (!birth) return { unknown: String(metric.alias) };
      metric.datatype = birth.datatype;
      metric.name = birth.name;
    }
  }
  const payload = spb.decodePayload(Payload.encode(raw).finish());
  return { seq: payload.seq === undefined ? null : Number(payload.seq), raw,
    metrics: payload.metrics || [] };
}

const plain = (value) => (value !== null && typeof value === 'object' ? Number(value) : value);
const picture = (metrics) => metrics.map((m) => ({ ...m, alias: plain(m.alias ?? null),
  value: plain(m.value), timestamp: plain(m.timestamp) }));

function follows(node, name, seq, type) {
  if (!node) return `${type} before NBIRTH`;
  const expected = (node.seq + 1) % 256;
  node.seq = seq;
  return seq === expected ? null : `${type} with seq ${seq}, not ${expected}`;
}

client.on('message', (topic, bytes, packet) => {
  const [, group, type, name, device = null] = topic.split('/');
  if (group !== GROUP || type.endsWith('CMD')) return;
  const known = nodes.get(name);
  const payload = decode(bytes, known && known.devices.get(device));
  const what = { type, node: name, device, seq: payload.seq, metrics: picture(payload.metrics || []) };
  let wrong = payload.unknown ? `${type} with alias ${payload.unknown}, which is in no birth` : null;
  if (packet.qos !== 0 && type !== 'NDEATH') wrong = `${type} at QoS ${packet.qos}`;
  if (packet.retain) wrong = `${type} is retained`;
  if (type === 'NBIRTH') {
    const bdSeq = what.metrics.find((m) => m.name === 'bdSeq');
    nodes.set(name, { seq: payload.seq, bdSeq: bdSeq && bdSeq.value, devices: new Map() });
    if (payload.seq !== 0) wrong = wrong || `NBIRTH with seq ${payload.seq}`;
    if (!bdSeq) wrong = 'NBIRTH without bdSeq';
  } else if (type === 'NDEATH') {
    const bdSeq = what.metrics.find((m) => m.name === 'bdSeq');
    if (known && bdSeq && known.bdSeq === bdSeq.value) nodes.delete(name);
  } else {
    wrong = wrong || follows(known, name, payload.seq, type);
  }
  if (type === 'DBIRTH' && known) {
    known.devices.set(device, new Map((payload.raw.metrics || []).map(
      (m) => [String(m.alias), { name: m.name, datatype: m.datatype }])));
  } else if (type === 'DDEATH' && known && !known.devices.delete(device)) {
    wrong = wrong || `DDEATH of ${device}, which is not born`;
  }
  say(what);
  if (wrong) object(name, wrong);
});

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { type, node, device, metrics } = JSON.parse(line);
  send(type, node, device, metrics);
}).on('close', () => process.exit(0));
