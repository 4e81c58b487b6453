import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import { Agent, get } from 'node:https'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { Connections } from '../lib/worker-base/http/connections.js'
import { Http } from '../lib/worker-base/http/index.js'
import { until } from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'

/** How a server shares its connections out. */

const OTHER = '127.0.0.2'

interface Client {
  socket: Socket
  /** Sends a request and waits for its answer. */
  ask(): Promise<void>
}

/** A server whose clients from 127.0.0.1 are held to a share, as others are outside of tests. `/slow` waits for `release`. */
async function startServer(t: Test, bounds: { most: number; perAddress: number }) {
  let release = (): void => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  let underWay = 0
  const server = createServer(async ({ url }, response) => {
    if (url === '/slow') {
      underWay++
      await released
      underWay--
    }
    response.end('done')
  })
  const connections = new Connections(server, bounds, (address) => !address.endsWith(OTHER))
  await new Promise<void>((resolve) => server.listen(0, resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const open = async (localAddress = '127.0.0.1'): Promise<Client> => {
    const socket = connect({ port, host: '127.0.0.1', localAddress })
    socket.on('error', () => {})
    let received = ''
    socket.setEncoding('utf8').on('data', (text: string) => {
      received += text
    })
    t.teardown(() => socket.destroy())
    await new Promise((resolve) => socket.once('connect', resolve))
    return {
      socket,
      async ask() {
        received = ''
        socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n')
        await until(() => received.includes('done'), 'the answer')
      },
    }
  }
  /** Opens some, one behind the other. */
  const openAll = async (count: number, from?: string): Promise<Client[]> => {
    const clients: Client[] = []
    for (let i = 0; i < count; i++) clients.push(await open(from))
    return clients
  }
  return { connections, open, openAll, release, underWay: () => underWay }
}

const areClosed = (clients: readonly Client[]): boolean[] => clients.map(({ socket }) => socket.destroyed)

testUnless(
  process.platform === 'linux' ? undefined : '127.0.0.2, which only Linux has as it is',
  'one address has its share of the connections, and those that do nothing give way',
  { timeout: 30_000 },
  async (t) => {
    const { connections, open, openAll, release, underWay } = await startServer(t, { most: 8, perAddress: 3 })
    const [first, second, third] = await openAll(3)
    await first?.ask()
    const fourth = await open()
    await until(() => second?.socket.destroyed, 'the oldest that never asked is closed')
    t.alike(
      [first, third, fourth].map((client) => client?.socket.destroyed),
      [false, false, false],
    )
    const others = await openAll(5, OTHER)
    await Promise.all(others.map((client) => client.ask()))
    t.is(connections.size, 8)
    const ninth = await open(OTHER)
    await until(() => third?.socket.destroyed, 'in all too, the oldest that never asked goes')
    await ninth.ask()
    t.absent(areClosed(others).includes(true), 'an address that has no share may have more')

    for (const client of [first, fourth]) client?.socket.write('GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await until(() => underWay() === 2, 'two are at work')
    const [fifth, sixth] = await openAll(2)
    await until(() => fifth?.socket.destroyed, 'beside those that are at work there is one place')
    await sixth?.ask()
    sixth?.socket.write('GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await until(() => underWay() === 3, 'all three are at work')
    const refused = await open()
    await until(() => refused.socket.destroyed, 'the new one is closed then')
    release()
    await until(() => underWay() === 0, 'all are answered')
    await first?.ask()
    for (const { socket } of [...others, ninth]) socket.destroy()
    await until(() => connections.size === 3, 'closed ones are forgotten')
  },
)

testUnless(
  missingProgram('openssl version'),
  'under TLS a client that never shakes hands is cut in time, and connections count the same',
  { timeout: 30_000 },
  async (t) => {
    const dir = await t.tmp()
    const [tlsKey, tlsCert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
    const certificate = ['-keyout', tlsKey, '-out', tlsCert, '-days', '2', '-subj', '/CN=localhost']
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...certificate], { stdio: 'ignore' })
    const config = { host: '127.0.0.1', port: 0, tlsKey, tlsCert, headersTimeoutMs: 300, maxConnections: 3 }
    const http = new Http(config, join(dir, 'port'), () => {})
    http.app.get('/', async () => 'done')
    await http.start()
    t.teardown(() => http.stop())
    const port = Number(new URL(http.url).port)
    const silent = connect(port, '127.0.0.1')
    silent.resume().on('error', () => {})
    const from = performance.now()
    await until(() => silent.destroyed, 'the silent one is cut', 10_000)
    t.ok(performance.now() - from < 5000, `${(performance.now() - from).toFixed(0)} ms`)
    const agent = new Agent({ keepAlive: true, rejectUnauthorized: false })
    t.teardown(() => agent.destroy())
    const flood = Array.from({ length: 9 }, () =>
      connect(port, '127.0.0.1')
        .on('error', () => {})
        .resume(),
    )
    t.teardown(() => {
      for (const socket of flood) socket.destroy()
    })
    await until(() => flood.filter(({ destroyed }) => destroyed).length >= 6, 'the oldest give way')
    const status = await new Promise((resolve, reject) => {
      get(http.url, { agent }, (response) => {
        response.resume()
        resolve(response.statusCode)
      }).once('error', reject)
    })
    t.is(status, 200)
  },
)
