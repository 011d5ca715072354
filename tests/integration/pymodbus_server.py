"""A Modbus server of pymodbus with one face, be it Debian 12's (3.0) or Debian 13's (3.8).

`owner.handle(request, send)` is called for each request, in the loop's thread, with
`unit_id`, `function_code`, `transaction_id`, and what the function has of `address`,
`count`, `value` and `values`. It may call `send` with one of the answers below, now or
later or never.
"""

import logging

import pymodbus

logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # exceptions are meant

if pymodbus.__version__ < "3.8":
    from pymodbus.bit_read_message import ReadCoilsResponse
    from pymodbus.bit_write_message import WriteMultipleCoilsResponse, WriteSingleCoilResponse
    from pymodbus.pdu import ExceptionResponse
    from pymodbus.register_read_message import ReadHoldingRegistersResponse
    from pymodbus.register_read_message import ReadInputRegistersResponse
    from pymodbus.register_write_message import WriteMultipleRegistersResponse
    from pymodbus.register_write_message import WriteSingleRegisterResponse
    from pymodbus.server.async_io import ModbusConnectedRequestHandler, ModbusSerialServer
    from pymodbus.server.async_io import ModbusDisconnectedRequestHandler, ModbusUdpServer
    from pymodbus.server.async_io import ModbusSingleRequestHandler, ModbusTcpServer
    from pymodbus.server.async_io import ModbusTlsServer
    from pymodbus.transaction import ModbusAsciiFramer, ModbusRtuFramer, ModbusSocketFramer

    _FRAMERS = {"tcp": ModbusSocketFramer, "rtu": ModbusRtuFramer, "ascii": ModbusAsciiFramer}

    def exception(request, code):
        return ExceptionResponse(request.function_code, code)

    def read_answer(request, words):
        kind = {3: ReadHoldingRegistersResponse, 4: ReadInputRegistersResponse}
        return kind[request.function_code](words)

    def write_answer(request):
        if request.function_code == 6:
            return WriteSingleRegisterResponse(request.address, request.value)
        return WriteMultipleRegistersResponse(request.address, len(request.values))

    def read_coils_answer(bits):
        return ReadCoilsResponse(bits)

    def write_coil_answer(request):
        if request.function_code == 15:
            return WriteMultipleCoilsResponse(request.address, len(request.values))
        return WriteSingleCoilResponse(request.address, request.value)

    class _Units:
        """The face of pymodbus's server context that its handlers look at."""

        single = True  # every unit id comes through to handle()

        def slaves(self):
            return []

    def _handler(base, owner):
        class Handler(base):
            def connection_made(self, transport):
                owner.connections += 1
                super().connection_made(transport)

            def execute(self, request, *addr):
                def send(response):
                    response.transaction_id = request.transaction_id
                    response.unit_id = request.unit_id
                    self.send(response, *addr)

                owner.handle(request, send)

            def _log_exception(self):  # a client that goes away is no news
                pass

        return Handler

    class Server:
        """Of one port, TCP or UDP, or one serial line."""

        def __init__(self, owner):
            self.owner = owner

        async def listen(self, address, framing="tcp", udp=False, tls=None):
            """`tls`: (certificate, key)."""
            self._udp = udp
            base = ModbusDisconnectedRequestHandler if udp else ModbusConnectedRequestHandler
            more = {"framer": _FRAMERS[framing], "address": address,
                    "handler": _handler(base, self.owner)}
            if udp:
                self.server = ModbusUdpServer(_Units(), **more)
            elif tls:
                self.server = ModbusTlsServer(_Units(), allow_reuse_address=True, certfile=tls[0],
                                              keyfile=tls[1], **more)
            else:
                self.server = ModbusTcpServer(_Units(), allow_reuse_address=True, **more)
            self._serving = self.owner.loop.create_task(self.server.serve_forever())
            await self.server.serving

        async def listen_on_line(self, path, framing="rtu"):
            self._serving = None
            self.server = ModbusSerialServer(
                _Units(), _FRAMERS[framing], port=path, baudrate=9600,
                handler=_handler(ModbusSingleRequestHandler, self.owner))
            await self.server.start()

        async def stop(self):
            """Also every connection, at once."""
            if self._serving is None:
                await self.server.shutdown()
                return
            if self._udp:
                self.server.protocol.close()
                self._serving.cancel()
                return
            for handler in list(self.server.active_connections.values()):
                handler.transport.abort()
            self.server.server.close()
            self._serving.cancel()

else:
    from pymodbus.framer import FramerType
    from pymodbus.pdu import ExceptionResponse
    from pymodbus.pdu.bit_message import ReadCoilsResponse, WriteMultipleCoilsResponse
    from pymodbus.pdu.bit_message import WriteSingleCoilResponse
    from pymodbus.pdu.register_message import ReadHoldingRegistersResponse
    from pymodbus.pdu.register_message import ReadInputRegistersResponse
    from pymodbus.pdu.register_message import WriteMultipleRegistersResponse
    from pymodbus.pdu.register_message import WriteSingleRegisterResponse
    from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
    from pymodbus.server import ModbusUdpServer
    from pymodbus.server.requesthandler import ServerRequestHandler

    _FRAMERS = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU, "ascii": FramerType.ASCII}

    def exception(request, code):
        return ExceptionResponse(request.function_code, code)

    def read_answer(request, words):
        kind = {3: ReadHoldingRegistersResponse, 4: ReadInputRegistersResponse}
        return kind[request.function_code](registers=list(words))

    def write_answer(request):
        if request.function_code == 6:
            return WriteSingleRegisterResponse(address=request.address, registers=[request.value])
        return WriteMultipleRegistersResponse(address=request.address, count=len(request.values))

    def read_coils_answer(bits):
        return ReadCoilsResponse(bits=list(bits))

    def write_coil_answer(request):
        if request.function_code == 15:
            return WriteMultipleCoilsResponse(address=request.address, count=len(request.values))
        return WriteSingleCoilResponse(address=request.address, bits=[request.value])

    class _Handler(ServerRequestHandler):
        def callback_connected(self):
            self.server.owner.connections += 1
            self.max_until_disconnect = self.count_until_disconnect = 1
            self.next_tid = 0

        async def handle_request(self):
            request, address = self.last_pdu, self.last_addr
            if not request:
                return
            request.unit_id = request.dev_id
            if request.function_code in (6, 16):
                request.values = list(request.registers)
                request.value = request.values[0]
            elif request.function_code in (5, 15):
                request.values = list(request.bits)
                request.value = request.bits[0]

            def send(response):
                response.transaction_id = request.transaction_id
                response.dev_id = request.dev_id
                if self.transport and not self.transport.is_closing():
                    self.server_send(response, address)

            self.server.owner.handle(request, send)

    class _Faces:
        def callback_new_connection(self):
            return _Handler(self, lambda sending, data: data, lambda sending, pdu: pdu,
                            lambda connected: None)

    class _TcpServer(_Faces, ModbusTcpServer):
        pass

    class _UdpServer(_Faces, ModbusUdpServer):
        pass

    class _TlsServer(_Faces, ModbusTlsServer):
        pass

    class _SerialServer(_Faces, ModbusSerialServer):
        pass

    class Server:
        """Of one port, TCP or UDP, or one serial line."""

        def __init__(self, owner):
            self.owner = owner

        async def _start(self, server):
            self.server = server
            server.owner = self.owner
            await server.serve_forever(background=True)
            assert server.transport, "pymodbus cannot listen"

        async def listen(self, address, framing="tcp", udp=False, tls=None):
            """`tls`: (certificate, key)."""
            more = {"framer": _FRAMERS[framing], "address": address}
            if udp:
                server = _UdpServer(None, **more)
            elif tls:
                server = _TlsServer(None, certfile=tls[0], keyfile=tls[1], **more)
            else:
                server = _TcpServer(None, **more)
            await self._start(server)

        async def listen_on_line(self, path, framing="rtu"):
            await self._start(_SerialServer(None, framer=_FRAMERS[framing], port=path,
                                            baudrate=9600))

        async def stop(self):
            """Also every connection, at once."""
            for handler in list(self.server.active_connections.values()):
                if handler.transport:
                    handler.transport.abort()
            await self.server.shutdown()
