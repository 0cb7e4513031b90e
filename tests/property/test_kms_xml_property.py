"""Documents of the KMS protocol: round trips, and arbitrary octets."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from mikey_sakke.kms_exchange import moment_of, ntp_text, same_resource
from mikey_sakke.kms_faults import KmsFault
from mikey_sakke.kms_values import (
    Certificate,
    CertificateCache,
    DomainList,
    ErrorReport,
    Init,
    KeyProvision,
    KeySet,
    KmsMessage,
    Request,
    Response,
)
from mikey_sakke.kms_xml import decode, encode

characters = st.characters(exclude_categories=("Cc", "Cs", "Z"), exclude_characters="\ufffe\uffff")
uris = st.text(characters, min_size=1, max_size=30)
texts = st.lists(st.text(characters, min_size=1, max_size=8), max_size=3).map(" ".join)
moments = st.integers(0, 253402300799)
counts = st.integers(0, 2**63 - 1)
versions = st.sampled_from(["1", "1.0.0", "1.1.0", "2.0"])
flags = st.none() | st.booleans()


def octets(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


errors = st.builds(ErrorReport, st.integers(-(2**31), 2**31 - 1), texts)
requests = st.builds(
    Request,
    uris,
    uris,
    moments,
    uris,
    client_id=st.none() | texts,
    device_id=st.none() | texts,
    error=st.none() | errors,
    id=st.none() | texts,
    version=versions,
)
certificates = st.builds(
    Certificate,
    uris,
    counts,
    counts,
    octets(257),
    octets(65),
    role=st.sampled_from(["Root", "External"]),
    cert_uri=st.none() | uris,
    issuer=st.none() | texts,
    valid_from=st.none() | moments,
    valid_to=st.none() | moments,
    revoked=flags,
    user_id_format=texts,
    parameter_set=st.none() | counts,
    domain_list=st.none() | st.builds(DomainList, st.lists(uris, min_size=1, max_size=4).map(tuple)),
    security_gateway=flags,
    id=st.none() | texts,
    version=versions,
)
key_sets = st.builds(
    KeySet,
    uris,
    uris,
    octets(32),
    counts,
    octets(257),
    octets(32),
    octets(65),
    cert_uri=st.none() | uris,
    issuer=st.none() | texts,
    valid_from=st.none() | moments,
    valid_to=st.none() | moments,
    revoked=flags,
    id=st.none() | texts,
    version=versions,
)
messages = st.one_of(
    st.builds(KmsMessage, init=st.builds(Init, certificates, versions)),
    st.builds(KmsMessage, key_provision=st.builds(KeyProvision, st.lists(key_sets, max_size=3).map(tuple), versions)),
    st.builds(
        KmsMessage,
        certificate_cache=st.builds(
            CertificateCache, st.lists(certificates, max_size=3).map(tuple), st.none() | counts, versions
        ),
    ),
)
envelopes = st.builds(Response, uris, uris, moments, uris, kms_id=st.none() | texts, id=st.none() | texts)
responses = st.one_of(
    envelopes,
    st.builds(Response, uris, uris, moments, uris, message=messages, version=versions),
    st.builds(Response, uris, uris, moments, uris, error=errors),
)


@given(requests)
def test_requests_come_back_as_they_were(request: Request) -> None:
    assert decode(encode(request), Request) == request


@given(responses)
def test_responses_come_back_as_they_were(response: Response) -> None:
    assert decode(encode(response), Response) == response


@given(certificates)
def test_certificates_come_back_as_they_were(certificate: Certificate) -> None:
    assert decode(encode(certificate), Certificate) == certificate


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))))
def test_arbitrary_octets_are_refused_with_a_fault(data: bytes) -> None:
    for expected in (Request, Response, Certificate):
        with suppress(KmsFault):
            decode(data, expected)
            raise AssertionError("nothing random is a document of ours")


@given(requests, st.data())
def test_a_damaged_document_is_another_or_a_fault(request: Request, data: st.DataObject) -> None:
    good = bytearray(encode(request))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] = data.draw(st.integers(0, 255))
    with suppress(KmsFault):
        assert isinstance(decode(bytes(good), Request), Request)


@given(st.integers(0, 2**33), st.integers(-(2**30), 2**30))
def test_a_moment_in_a_url_is_read_in_the_era_nearest_to_now(moment: int, apart: int) -> None:
    """64-bit NTP times wrap in 2036, in the middle of key periods."""
    assert moment_of(ntp_text(moment), max(0, moment + apart)) == moment


@given(st.text(characters, min_size=1, max_size=20))
def test_a_resource_is_the_same_however_it_is_quoted(uri: str) -> None:
    from urllib.parse import quote

    path = "https://kms.example.org/keymanagement/identity/v1/keyprov/"
    assert same_resource(path + quote(uri, safe=""), path + quote(uri, safe="@:"))
    assert not same_resource(path + quote(uri, safe=""), path + quote(uri + "x", safe=""))
