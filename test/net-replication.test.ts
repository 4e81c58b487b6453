import test from 'brittle'
import { Duplex } from 'streamx'
import type { Caller } from '../lib/protocol/index.js'
import { Replication } from '../lib/worker-base/net/replication.js'

test('a core goes to its audience, once, and to nobody before a hello', (t) => {
  const offered = new Map<Duplex, string[]>()
  const core = (name: string) => ({
    replicate: (stream: Duplex) => {
      offered.set(stream, [...(offered.get(stream) ?? []), name])
      return stream
    },
  })
  const links: { publicKey: string; role: Caller; greeted: boolean; closed: boolean; conn: Duplex }[] = []
  const link = (role: Caller, { greeted = true, closed = false } = {}) => {
    const made = { publicKey: role, role, greeted, closed, conn: new Duplex() }
    links.push(made)
    return made
  }
  const replication = new Replication<(typeof links)[number]>(links, ({ role }) => role)
  const got = ({ conn }: { conn: Duplex }): string[] => offered.get(conn) ?? []
  const gateway = link('gateway')
  const processor = link('processor')
  const client = link('client')
  const silent = link('gateway', { greeted: false })
  const gone = link('gateway', { closed: true })

  const [directory, accounts] = [core('directory'), core('accounts')]
  replication.share(directory, () => true)
  replication.share(accounts, ({ role }) => role === 'gateway')
  for (const one of links) replication.update(one)
  t.alike(got(gateway), ['directory', 'accounts'], 'on the links that there are')
  t.alike(got(processor), ['directory'])
  t.alike(got(client), ['directory'])
  t.alike([...got(silent), ...got(gone)], [])

  silent.greeted = true
  replication.update(silent)
  t.alike(got(silent), ['directory', 'accounts'], 'its hello came')
  client.role = 'gateway'
  replication.update(client)
  t.alike(got(client), ['directory', 'accounts'], 'it has become a member')

  replication.withdraw(accounts)
  const late = link('gateway')
  replication.update(late)
  t.alike(got(late), ['directory'])
})
