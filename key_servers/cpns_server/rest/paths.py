"""Names of the REST interface that its clients know too. Without an HTTP library, so that commands start at once."""

ROOT_PATH = "/cpns/v1/"
DOCUMENT_PATH = f"{ROOT_PATH}openapi.json"
REQUEST_KEY = "Idempotency-Key"
"""The header by which a request that is repeated, as its answer was lost, is carried out once."""
REQUEST_KEY_FORM = "^[!-~]{0,64}$"

TLS_CERTIFICATE_FILE = "tls_certificate.pem"
TLS_KEY_FILE = "tls_key.pem"
"""The names of its TLS files in their folder."""
