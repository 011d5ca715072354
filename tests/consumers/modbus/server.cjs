// A PowerPack on npm's jsmodbus: `server.cjs tcp|rtu PORT`; rtu: its frames over TCP. Says
// "ready", and each register that is written: "2008=65486".
'use strict'
const net = require('net')
const modbus = require('jsmodbus')

const [, , framing, port] = process.argv
const holding = Buffer.alloc(2 * 2100)
for (const [address, word] of [[2000, 1], [2008, 0], [2010, 0], [2026, 61], [2028, 4]]) {
  holding.writeUInt16BE(word, 2 * address)
}

function tell (server) {
  server.on('postWriteSingleRegister', (request) =>
    console.log(`${request.body.address}=${holding.readUInt16BE(2 * request.body.address)}`))
}

const listener = net.createServer((socket) => {
  socket.on('error', () => {})
  if (framing === 'rtu') tell(new modbus.server.RTU(socket, { holding }))
})
if (framing === 'tcp') tell(new modbus.server.TCP(listener, { holding }))
listener.listen(Number(port), '127.0.0.1', () => console.log('ready'))
