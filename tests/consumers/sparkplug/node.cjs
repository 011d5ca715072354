// A second node beside the bridge's, on npm's sparkplug-client, with a device "Pump" whose level
// each line on stdin sets.
//
//     node.cjs PORT
'use strict';
const readline = require('readline');
const client = require('sparkplug-client').newClient({
  serverUrl: `tcp://127.0.0.1:${process.argv[2]}`,
  username: '',
  password: '',
  groupId: 'flux',
  edgeNode: 'other',
  clientId: 'other-node',
  version: 'spBv1.0',
  keepalive: 5,
});
const level = (value) => ({ timestamp: Date.now(), metrics: [
  { name: 'level', alias: 7, type: 'Double', value, timestamp: Date.now() }] });

client.on('birth', () => {
  client.publishNodeBirth({ timestamp: Date.now(), metrics: [
    { name: 'Node Control/Rebirth', type: 'Boolean', value: false, timestamp: Date.now() }] });
  client.publishDeviceBirth('Pump', level(1.5));
});
readline.createInterface({ input: process.stdin })
  .on('line', (line) => client.publishDeviceData('Pump', level(Number(line))))
  .on('close', () => { client.stop(); setTimeout(() => process.exit(0), 500).unref(); });
