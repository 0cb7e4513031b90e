// The costs in MLS (RFC 9420, npm ts-mls) when one of n members leaves and the others get a new key.
//
// Usage: node remove_one.mjs N. Prints one JSON object: octets of the commit, milliseconds at the sender and at one
// receiver. The group is used as a gateway would use it: the gateway adds all members, and no other member commits.
import {
  createCommit,
  createGroup,
  defaultCapabilities,
  defaultLifetime,
  emptyPskIndex,
  encodeMlsMessage,
  generateKeyPackage,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
  joinGroup,
  processMessage,
} from "ts-mls"

const members = Number(process.argv[2])
const suite = await getCiphersuiteImpl(getCiphersuiteFromName("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"))
const text = new TextEncoder()

const keyPackage = (name) =>
  generateKeyPackage(
    { credentialType: "basic", identity: text.encode(name) },
    defaultCapabilities(),
    defaultLifetime,
    [],
    suite,
  )

const gateway = await keyPackage("gateway")
let state = await createGroup(text.encode("sg"), gateway.publicPackage, gateway.privatePackage, [], suite)
const packages = []
for (let i = 0; i < members; i++) packages.push(await keyPackage(`pne-${i}`))
const added = await createCommit(
  { state, cipherSuite: suite },
  {
    extraProposals: packages.map((each) => ({ proposalType: "add", add: { keyPackage: each.publicPackage } })),
    ratchetTreeExtension: true,
  },
)
state = added.newState
const receiver = await joinGroup(
  added.welcome,
  packages[0].publicPackage,
  packages[0].privatePackage,
  emptyPskIndex,
  suite,
)

const start = performance.now()
const commit = await createCommit(
  { state, cipherSuite: suite },
  { extraProposals: [{ proposalType: "remove", remove: { removed: members } }], wireAsPublicMessage: false },
)
const sent = performance.now()
const octets = encodeMlsMessage(commit.commit).length
const before = performance.now()
await processMessage(commit.commit, receiver, emptyPskIndex, () => "accept", suite)
const received = performance.now()
console.log(JSON.stringify({ octets, send_ms: sent - start, receive_ms: received - before }))
