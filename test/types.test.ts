import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import RPC from '@hyperswarm/rpc'
import autocannon from 'autocannon'
import test, { type Test } from 'brittle'
import Corestore, { type Core } from 'corestore'
import DeviceFile from 'device-file'
import Hyperbee from 'hyperbee'
import HypercoreStorage from 'hypercore-storage'
import DHT from 'hyperdht'
import createTestnet from 'hyperdht/testnet.js'
import Hyperswarm, { type PeerInfo } from 'hyperswarm'
import multicastDns from 'multicast-dns'
import Protomux from 'protomux'
import ProtomuxRPC from 'protomux-rpc'
import Rache from 'rache'
import sodium from 'sodium-universal'
import z32 from 'z32'

/** One name that a declaration file promises. */
interface Member {
  name: string
  isStatic: boolean
  isMethod: boolean
  isOptional: boolean
}

/** A class, an interface, or a constant's object type. */
interface Declared {
  module: string
  name: string
  members: Member[]
}

/** Reads the classes, interfaces and constants of `declare module` blocks; of inline object types, only the outermost. */
function readDeclarations(text: string): Declared[] {
  const source = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '')
  const found: Declared[] = []
  let module = ''
  let current: Declared | undefined
  let depth = 0
  for (const line of source.split('\n')) {
    const at = depth
    depth += (line.match(/[{([]/g)?.length ?? 0) - (line.match(/[})\]]/g)?.length ?? 0)
    module = /^declare module '(.+)'/.exec(line)?.[1] ?? module
    if (at === 1) {
      const name = /^\s*(?:export )?(?:default )?(?:class|interface|const) (\w+)/.exec(line)?.[1]
      current = name === undefined ? undefined : { module, name, members: [] }
      if (current !== undefined && line.includes('{')) found.push(current)
      // All on one line: const z32: { encode(…): …; decode(…): … }
      if (current !== undefined && depth === 1) {
        const body = line.slice(line.indexOf('{') + 1, line.lastIndexOf('}'))
        current.members = body.split(';').flatMap(readMember)
      }
    } else if (at === 2 && current !== undefined) current.members.push(...readMember(line))
  }
  return found
}

function readMember(text: string): Member[] {
  const match = /^\s*((?:static |readonly )*)(\w+)(\?)?(<.+?>)?\s*([(:])/.exec(text)
  const name = match?.[2]
  if (match === null || name === undefined || name === 'constructor') return []
  return [{ name, isStatic: /static/.test(match[1] ?? ''), isMethod: match[5] === '(', isOptional: match[3] === '?' }]
}

/** What a real value lacks of what is declared, in words. */
function missing(declared: Declared, sample: unknown, statics: unknown): string[] {
  return declared.members.flatMap(({ name, isStatic, isMethod, isOptional }) => {
    const holder = Object(isStatic ? statics : sample) as Record<string, unknown>
    const place = `${declared.module}: ${declared.name}.${name}`
    if (!(name in holder)) return isOptional ? [] : [`${place} does not exist`]
    return isMethod && typeof holder[name] !== 'function' ? [`${place} is not a function`] : []
  })
}

function declarations(): Declared[] {
  const folder = fileURLToPath(new URL('../../types/', import.meta.url))
  const texts = readdirSync(folder).map((file) => readFileSync(folder + file, 'utf8'))
  return texts.flatMap(readDeclarations)
}

/** Types of what we give to these packages, not of what they give to us. */
const OURS = new Set([
  'protomux: Encoding',
  'hyperdht: QueryRequest',
  'multicast-dns: Question',
  'multicast-dns: Answer',
])

/** A real value of every declared type, from two swarms that are connected, a store and this test itself. */
async function samples(t: Test): Promise<Map<string, unknown>> {
  const host = '127.0.0.1'
  const testnet = await createTestnet(3, { host, teardown: t.teardown })
  const { bootstrap } = testnet
  const requests: unknown[] = []
  const [asked] = testnet.nodes
  if (asked !== undefined) {
    const answer = asked.onrequest.bind(asked)
    asked.onrequest = (request) => {
      requests.push(request)
      return answer(request)
    }
  }
  const swarms = [1, 2].map(() => new Hyperswarm({ dht: new DHT({ bootstrap, host }) }))
  // Not by force: that leaves the ten-minute timer of each topic running.
  t.teardown(() => Promise.all(swarms.map((swarm) => swarm.destroy())))
  const [server, client] = swarms as [Hyperswarm, Hyperswarm]

  const topic = Buffer.alloc(32, 'types')
  const connected = new Promise<PeerInfo>((resolve) => client.on('connection', (_, info) => resolve(info)))
  for (const swarm of swarms) swarm.on('connection', (conn) => conn.on('error', () => {}))
  const discovery = server.join(topic, { server: true, client: false })
  await discovery.flushed()
  client.join(topic, { server: false, client: true })
  const peerInfo = await connected
  const [stream] = client.connections
  if (stream === undefined) throw new Error('The two swarms did not connect')
  const lookups = []
  for await (const result of client.dht.lookup(topic)) lookups.push(result)

  const mux = Protomux.from(stream)
  const channel = mux.createChannel({ protocol: 'types' })
  const bytes = { preencode() {}, encode() {}, decode: () => new Uint8Array() }
  const message = channel?.addMessage({ encoding: bytes })
  const protomuxRpc = new ProtomuxRPC(stream)
  const rpc = new RPC({ dht: client.dht })
  const rpcClient = rpc.connect(server.keyPair.publicKey)
  rpcClient.on('error', () => {})
  t.teardown(() => rpc.destroy(), { order: -1 })

  const storage = new HypercoreStorage(await t.tmp())
  const store = new Corestore(storage)
  t.teardown(() => store.close())
  const cores: Core[] = []
  store.watch((core) => cores.push(core))
  const core = store.get({ name: 'types' })
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  await bee.put('key', Buffer.from('value'))
  const batch = bee.batch()
  t.teardown(() => batch.close(), { order: -1 })
  const [change] = await fromAsync(bee.createHistoryStream())

  const web = createServer((_request, response) => response.end()).listen(0, host)
  await once(web, 'listening')
  t.teardown(() => web.close())
  const load = await autocannon({
    url: `http://${host}:${(web.address() as AddressInfo).port}`,
    method: 'POST',
    headers: {},
    body: '',
    connections: 1,
    duration: 1,
  })

  const mdns = multicastDns({ port: 0, multicast: false })
  t.teardown(() => new Promise<void>((resolve) => mdns.destroy(resolve)))

  return new Map<string, unknown>([
    ['autocannon: Result', load],
    ['z32: z32', z32],
    ['protomux: Message', message],
    ['protomux: Channel', channel],
    ['protomux: Protomux', mux],
    ['protomux-rpc: ProtomuxRPC', protomuxRpc],
    ['@hyperswarm/rpc: Client', rpcClient],
    ['@hyperswarm/rpc: RPC', rpc],
    ['hyperdht: KeyPair', DHT.keyPair()],
    ['hyperdht: NodeAddress', bootstrap[0]],
    ['hyperdht: NoiseStream', stream],
    ['hyperdht: Server', client.dht.createServer(() => {})],
    ['hyperdht: LookupResult', lookups[0]],
    ['hyperdht: DHTRequest', requests[0]],
    ['hyperdht: DHT', client.dht],
    ['hyperdht/testnet.js: Testnet', testnet],
    ['hyperswarm: PeerInfo', peerInfo],
    ['hyperswarm: Discovery', discovery],
    ['hyperswarm: Hyperswarm', client],
    ['hypercore: Hypercore', core],
    ['hypercore: CoreChanges', core.core.state.storage.write()],
    ['hypercore/lib/session-state.js: SessionState', Reflect.get(core, 'state')],
    ['hypercore-storage: HypercoreStorage', storage],
    ['device-file: DeviceFile', new DeviceFile('unopened')],
    ['corestore: Core', cores[0]],
    ['corestore: Replicator', cores[0]?.replicator],
    ['corestore: Corestore', store],
    ['multicast-dns: Mdns', mdns],
    ['rache: Rache', new Rache({ maxSize: 1 })],
    ['hyperbee: Entry', await bee.get('key')],
    ['hyperbee: HistoryEntry', change],
    ['hyperbee: Batch', batch],
    ['hyperbee: Hyperbee', bee],
    ['brittle: Assertions', t],
    ['brittle: Runner', test],
    ['sodium-universal: sodium', sodium],
  ])
}

async function fromAsync<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

test('every declared member of an untyped module exists in the installed version', { timeout: 60_000 }, async (t) => {
  const values = await samples(t)
  let checked = 0
  for (const declared of declarations()) {
    const key = `${declared.module}: ${declared.name}`
    const isInput = declared.members.every(({ isOptional }) => isOptional)
    if (OURS.has(key) || isInput) continue
    const { default: statics } = (await import(declared.module)) as { default: unknown }
    if (!values.has(key)) t.fail(`${key} is declared, and samples() makes none of it`)
    else t.alike(missing(declared, values.get(key), statics), [], `${key}, ${declared.members.length} members`)
    checked++
  }
  t.ok(checked >= values.size - 1, `${checked} declarations were read`)
})

test('a member that does not exist, or is no function, is reported', (t) => {
  const [declared] = readDeclarations(
    [
      `declare module 'thing' {`,
      '  /** A comment with { braces. */',
      '  export default class Thing extends Base {',
      '    constructor(options?: { name?: string })',
      '    static make(size: number): Thing',
      '    readonly length: number',
      '    optional?: string',
      '    get(key: string, options?: {',
      '      timeout?: number',
      '    }): Promise<void>',
      '    typed<T>(value: T): T',
      '    close(): void',
      '  }',
      '}',
    ].join('\n'),
  )
  if (declared === undefined) throw new Error('nothing was read')
  t.alike(
    declared.members.map(({ name }) => name),
    ['make', 'length', 'optional', 'get', 'typed', 'close'],
  )
  const whole = { length: 1, get() {}, typed() {}, close() {} }
  t.alike(missing(declared, whole, { make() {} }), [])
  t.alike(missing(declared, { ...whole, close: 'no' }, {}), [
    'thing: Thing.make does not exist',
    'thing: Thing.close is not a function',
  ])
})
