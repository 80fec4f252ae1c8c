"""A DLMS/COSEM meter's side of an association: without and with keys, reading by block transfer, setting.

Security: no authentication (public objects only), password (LLS), and HLS with GMAC in security suite 0, where every
message is enciphered with AES-128-GCM and a counter that must grow. Keys and password of simulated meters are the
well-known ones below; they protect nothing.

References
----------
DLMS UA, "DLMS/COSEM architecture and protocols" (Green Book): association 9.3, security suite 0 9.2.
"""

from __future__ import annotations

import os
import struct

from dlms_cosem import dlms_data, enumerations, exceptions
from dlms_cosem.protocol import acse, xdlms
from dlms_cosem.protocol.xdlms import conformance
from dlms_cosem.security import SecurityControlField, decrypt, encrypt, gmac
from dlms_cosem.utils import parse_as_dlms_data

from plant_simulator.dlms_meter import PUBLIC, DlmsMeter, NoValueError
from plant_simulator.dlms_selection import EntryRange, TimeRange, selection_of

ENCRYPTION_KEY = bytes(range(16))
AUTHENTICATION_KEY = bytes(range(0xD0, 0xE0))
PASSWORD = b"00000001"
BLOCK_BYTES = 400
AROUND_BLOCK = 64
"""Heads of a block and, where it is enciphered, of its protection [bytes]."""
LARGEST_APDU = 2048
LEAST_CIPHERED = 1 + 4 + 12
"""Security control, counter and authentication tag [bytes]."""
HLS_CONTROL = SecurityControlField(security_suite=0, authenticated=True, encrypted=False)
FULL_CONTROL = SecurityControlField(security_suite=0, authenticated=True, encrypted=True)
AARQ, RLRQ, GET, SET, ACTION, GENERAL_CIPHER = 0x60, 0x62, 192, 193, 195, 219
GET_RESPONSE, ACTION_RESPONSE, EXCEPTION_RESPONSE = 196, 199, 216
SERVICE_CIPHERS = {0xC8: 0xC0, 0xC9: 0xC1, 0xCB: 0xC3}
"""Requests enciphered under a tag of their own, and the tag of what is in them."""
DECIPHERING_ERROR, COUNTER_ERROR = 5, 6
NORMAL, WITH_BLOCK = 1, 2
ACCEPTED = enumerations.AssociationResult.ACCEPTED
REJECTED = enumerations.AssociationResult.REJECTED_PERMANENT
Mechanism = enumerations.AuthenticationMechanism
Denied = enumerations.DataAccessResult


# What the protocol's library raises on bytes that it cannot make sense of.
UNREADABLE = (
    ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, NotImplementedError,
    RecursionError, struct.error, exceptions.DecryptionError, exceptions.CipheringError,
)  # fmt: skip


class CounterError(ValueError):
    """A message was sent again, or its counter is not above the last one that was taken."""

    def __init__(self, taken: int) -> None:
        super().__init__(f"the invocation counter is not above {taken}")
        self.taken = taken


class Association:
    """One client's association with a meter; takes requests and gives answers, without any input or output itself.

    Parameters
    ----------
    meter : DlmsMeter
        The meter.
    """

    def __init__(self, meter: DlmsMeter) -> None:
        self.meter = meter
        self.trusted = False
        self._open = False
        self._pending: tuple[bytes, bytes, bytes] | None = None
        self._ciphered = self._general = False
        self._client_title = b""
        self._blocks: list[bytes] = []
        self._block_number = 0
        self._block_bytes = BLOCK_BYTES
        self._own_counter = 0

    def answer(self, apdu: bytes) -> bytes:
        """Answer one request; what cannot be understood or decrypted is answered by an exception response."""
        try:
            return self._answer(apdu)
        except CounterError as error:
            return bytes([EXCEPTION_RESPONSE, 1, COUNTER_ERROR]) + error.taken.to_bytes(4, "big")
        except exceptions.DecryptionError:
            return bytes([EXCEPTION_RESPONSE, 1, DECIPHERING_ERROR])
        except UNREADABLE:
            return _exception(service_not_allowed=False)

    def _answer(self, apdu: bytes) -> bytes:
        if apdu[0] == AARQ:
            return self._associate(acse.ApplicationAssociationRequest.from_bytes(apdu))
        if apdu[0] == RLRQ:
            return self._release()
        if not self._open:
            return _exception(service_not_allowed=True)
        return self._answer_ciphered(apdu) if self._ciphered else self._serve(apdu)

    def _answer_ciphered(self, apdu: bytes) -> bytes:
        if apdu[0] == GENERAL_CIPHER and self.meter.general_protection:  # some clients use it without asking
            return self._encipher(self._serve(self._decipher(apdu)))
        if apdu[0] in SERVICE_CIPHERS:
            return self._encipher(self._serve(self._decipher_service(apdu)), by_service=True)
        return _exception(service_not_allowed=True)

    def _associate(self, request: acse.ApplicationAssociationRequest) -> bytes:
        mechanism = request.authentication or Mechanism.NONE
        self.trusted, self._open, self._pending = False, False, None
        self._ciphered = bool(request.ciphered)
        self._general = False
        self._client_title = bytes(request.system_title or b"")
        if self._ciphered:
            self._check_initiate(request)
        elif request.user_information and isinstance(request.user_information.content, xdlms.InitiateRequest):
            self._fit_blocks(request.user_information.content)
        challenge: bytes | None = None
        if mechanism == Mechanism.LLS:
            if request.authentication_value != PASSWORD:
                return self._verdict(mechanism, None, refused=True)
            self.trusted = True
        elif mechanism == Mechanism.HLS_GMAC and self._ciphered:
            challenge = os.urandom(16)
            self._pending = (bytes(request.authentication_value or b""), challenge, self._client_title)
        elif mechanism != Mechanism.NONE:
            return self._verdict(mechanism, None, refused=True)
        self._open = True
        return self._verdict(mechanism, challenge, refused=False)

    def _check_initiate(self, request: acse.ApplicationAssociationRequest) -> None:
        content = request.user_information.content
        if not isinstance(content, xdlms.GlobalCipherInitiateRequest):
            raise ValueError("a ciphered association needs a ciphered initiate request")
        plain = self._open_text(content.security_control, content.invocation_counter, bytes(content.ciphered_text))
        proposed = xdlms.InitiateRequest.from_bytes(plain)
        # The library's own reading of the proposal leaves its first bits out.
        agreed = conformance.Conformance.from_bytes(plain[-6:-2])
        self._general = agreed.general_protection and self.meter.general_protection
        self._fit_blocks(proposed)

    def _fit_blocks(self, proposed: xdlms.InitiateRequest) -> None:
        """No block longer than the client takes (0: as long as it may be), with what is around it."""
        largest = proposed.client_max_receive_pdu_size or LARGEST_APDU
        self._block_bytes = max(1, min(BLOCK_BYTES, largest - AROUND_BLOCK))

    def _verdict(
        self, mechanism: enumerations.AuthenticationMechanism, challenge: bytes | None, *, refused: bool
    ) -> bytes:
        agreed = xdlms.InitiateResponse(
            negotiated_conformance=conformance.Conformance(
                block_transfer_with_get_or_read=True,
                selective_access=True,
                get=True,
                set=True,
                action=True,
                general_protection=self._general,
            ),
            server_max_receive_pdu_size=LARGEST_APDU,
        )
        content = agreed
        if self._ciphered and not refused:
            counter = self._next_counter()
            content = xdlms.GlobalCipherInitiateResponse(FULL_CONTROL, counter, self._seal(agreed.to_bytes(), counter))
        diagnostics = enumerations.AcseServiceUserDiagnostics
        good = diagnostics.AUTHENTICATION_REQUIRED if challenge else diagnostics.NULL
        return acse.ApplicationAssociationResponse(
            result=REJECTED if refused else ACCEPTED,
            result_source_diagnostics=diagnostics.AUTHENTICATION_FAILED if refused else good,
            ciphered=self._ciphered,
            authentication=None if mechanism == Mechanism.NONE else mechanism,
            system_title=self.meter.system_title if self._ciphered else None,
            authentication_value=challenge,
            user_information=acse.UserInformation(content=content),
        ).to_bytes()

    def _release(self) -> bytes:
        self._open = self.trusted = False
        return acse.ReleaseResponse(reason=enumerations.ReleaseResponseReason.NORMAL).to_bytes()

    def _serve(self, apdu: bytes) -> bytes:
        if apdu[0] == GET:
            return self._get(apdu)
        if apdu[0] == SET:
            return self._set(apdu)
        if apdu[0] == ACTION:
            return self._prove(apdu)
        return _exception(service_not_allowed=True)

    def _get(self, apdu: bytes) -> bytes:
        invoke = apdu[2:3]
        apdu, selection = selection_of(apdu)
        request = xdlms.GetRequestFactory.from_bytes(apdu)
        if isinstance(request, xdlms.GetRequestNext):
            return self._next_block(invoke)
        if not isinstance(request, xdlms.GetRequestNormal):
            return _exception(service_not_allowed=True)
        content = self._content(request, selection)
        if isinstance(content, Denied):
            return _denied(invoke, content)
        size = self._block_bytes
        if len(content) <= size:
            return bytes([GET_RESPONSE, NORMAL]) + invoke + b"\x00" + content
        self._blocks = [content[i : i + size] for i in range(0, len(content), size)]
        self._block_number = 0
        return self._next_block(invoke)

    def _set(self, apdu: bytes) -> bytes:
        request = xdlms.SetRequestFactory.from_bytes(apdu)
        where = request.cosem_attribute
        result = Denied.READ_WRITE_DENIED
        if self.trusted:
            obis = ".".join(str(group) for group in where.instance.to_bytes())
            result = self._written(obis, where.attribute, parse_as_dlms_data(request.data))
        return xdlms.SetResponseNormal(result, request.invoke_id_and_priority).to_bytes()

    def _written(self, obis: str, attribute: int, value: object) -> enumerations.DataAccessResult:
        try:
            self.meter.write(obis, attribute, value)
        except KeyError:
            return Denied.READ_WRITE_DENIED
        except TypeError:
            return Denied.TYPE_UNMATCHED
        except ValueError:
            return Denied.OTHER_REASON
        return Denied.SUCCESS

    def _content(
        self, request: xdlms.GetRequestNormal, selection: TimeRange | EntryRange | None
    ) -> bytes | enumerations.DataAccessResult:
        """What the request asks for, or why it does not get it."""
        obis = ".".join(str(group) for group in request.cosem_attribute.instance.to_bytes())
        if not self.trusted and obis not in PUBLIC:
            return Denied.READ_WRITE_DENIED
        try:
            return self.meter.read(obis, request.cosem_attribute.attribute, selection)
        except KeyError:
            return Denied.OBJECT_UNDEFINED
        except NoValueError:
            return Denied.TEMPORARY_FAILURE

    def _next_block(self, invoke: bytes) -> bytes:
        if not self._blocks:
            return _denied(invoke, Denied.NO_LONG_GET_IN_PROGRESS)
        block = self._blocks.pop(0)
        self._block_number += 1
        last = b"\x00" if self._blocks else b"\x01"
        head = bytes([GET_RESPONSE, WITH_BLOCK]) + invoke + last + self._block_number.to_bytes(4, "big") + b"\x00"
        return head + bytes(dlms_data.encode_variable_integer(len(block))) + block

    def _prove(self, apdu: bytes) -> bytes:
        """Pass 3 and 4 of HLS: check the client's answer to our challenge, answer the client's."""
        request = xdlms.ActionRequestNormal.from_bytes(apdu)
        invoke = apdu[2:3]
        refusal = bytes([ACTION_RESPONSE, NORMAL]) + invoke + bytes([3, 0])
        if self._pending is None or request.data is None:
            return refusal
        client_challenge, own_challenge, title = self._pending
        reply = bytes(parse_as_dlms_data(request.data))
        expected = reply[:5] + self._mac(title, int.from_bytes(reply[1:5], "big"), own_challenge)
        self._pending = None
        if reply != expected:
            return refusal
        self.trusted = True
        counter = self._next_counter()
        proof = HLS_CONTROL.to_bytes() + counter.to_bytes(4, "big")
        proof += self._mac(self.meter.system_title, counter, client_challenge)
        data = bytes(dlms_data.OctetStringData(proof).to_bytes())
        return bytes([ACTION_RESPONSE, NORMAL]) + invoke + bytes([0, 1, 0]) + data

    def _mac(self, title: bytes, counter: int, challenge: bytes) -> bytes:
        return gmac(HLS_CONTROL, title, counter, ENCRYPTION_KEY, AUTHENTICATION_KEY, challenge)

    def _next_counter(self) -> int:
        self._own_counter += 1
        return self._own_counter

    def _seal(self, plain: bytes, counter: int) -> bytes:
        title = self.meter.system_title
        return encrypt(FULL_CONTROL, title, counter, ENCRYPTION_KEY, plain, AUTHENTICATION_KEY)

    def _open_text(self, control: SecurityControlField, counter: int, sealed: bytes) -> bytes:
        """Decrypt a message and remember its counter; one that does not grow is a message sent again."""
        if counter <= self.meter.client_counter:
            raise CounterError(self.meter.client_counter)
        plain = decrypt(control, self._client_title, counter, ENCRYPTION_KEY, sealed, AUTHENTICATION_KEY)
        self.meter.client_counter = counter
        return plain

    def _decipher(self, apdu: bytes) -> bytes:
        message = xdlms.GeneralGlobalCipher.from_bytes(apdu)
        return self._open_text(message.security_control, message.invocation_counter, bytes(message.ciphered_text))

    def _decipher_service(self, apdu: bytes) -> bytes:
        """What is in a request that is enciphered under the tag of its service."""
        length, content = dlms_data.decode_variable_integer(apdu[1:])
        if length != len(content) or length < LEAST_CIPHERED:
            raise ValueError(f"{len(content)} bytes instead of {length}")
        control = SecurityControlField.from_bytes(content[:1])
        plain = self._open_text(control, int.from_bytes(content[1:5], "big"), content[5:])
        if plain[0] != SERVICE_CIPHERS[apdu[0]]:
            raise ValueError(f"a service {plain[0]} under the tag {apdu[0]}")
        return plain

    def _encipher(self, apdu: bytes, *, by_service: bool = False) -> bytes:
        if by_service and apdu[0] == EXCEPTION_RESPONSE:
            return apdu
        counter = self._next_counter()
        content = FULL_CONTROL.to_bytes() + counter.to_bytes(4, "big") + self._seal(apdu, counter)
        title = self.meter.system_title
        length = bytes(dlms_data.encode_variable_integer(len(content)))
        if by_service:
            return bytes([apdu[0] + 8]) + length + content
        return bytes([GENERAL_CIPHER, len(title)]) + title + length + content


def _denied(invoke: bytes, reason: enumerations.DataAccessResult) -> bytes:
    return bytes([GET_RESPONSE, NORMAL]) + invoke + bytes([1, reason.value])


def _exception(*, service_not_allowed: bool) -> bytes:
    """State error 1: service not allowed, 2: service unknown; service error 2: not supported, 3: other reason."""
    return bytes([EXCEPTION_RESPONSE, 1, 2] if service_not_allowed else [EXCEPTION_RESPONSE, 1, 3])
