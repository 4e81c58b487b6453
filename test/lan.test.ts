import { createSocket } from 'node:dgram'
import test from 'brittle'
import type { Packet } from 'multicast-dns'
import { advertsIn, recordsOf, SERVICE } from '../lib/lan/advert.js'
import { type Advert, advertise, browse } from '../lib/lan/index.js'
import { closeMdns, openMdns } from '../lib/lan/mdns.js'
import { peerKey } from './auth-kit.js'
import { sleep, until } from './helpers/mesh.js'

/** Multicast DNS as it is on the wire, on loopback. */

const HERE = '127.0.0.1'
const advertOf = (number: number, over: Partial<Advert> = {}): Advert => ({
  mesh: peerKey(number),
  authority: peerKey(100 + number),
  bootstrap: `${HERE}:4000`,
  name: `machine${number}`,
  version: '1.2.3',
  protocol: 4,
  ...over,
})
const { signal } = new AbortController()
const look = (wanted: (advert: Advert) => boolean, forMs = 700) => browse({ forMs, address: HERE, wanted, signal })

test('what a mesh tells of itself is read back, and nothing of what is none', (t) => {
  const advert = advertOf(1)
  t.alike(advertsIn(recordsOf(advert)), [advert])
  t.alike(advertsIn(recordsOf(advert, 0)), [], 'one that is over')
  for (const over of [
    { mesh: 'short' },
    { authority: `${peerKey(1)}x` },
    { bootstrap: 'evil.example/x:1' },
    { name: 'two\nlines' },
    { name: '\x1b[31mred' },
    { version: '1\x1b[2J' },
    { version: 'x'.repeat(33) },
    { protocol: -1 },
  ])
    t.alike(advertsIn(recordsOf(advertOf(1, over))), [], JSON.stringify(over))
  const [txt] = (recordsOf(advert).additionals ?? []).filter(({ type }) => type === 'TXT')
  for (const data of [undefined, 'text', [], [Buffer.from([255, 0])], ['mesh'], ['__proto__=1', '=']])
    t.alike(advertsIn({ answers: [{ name: `x.${SERVICE}`, type: 'TXT', ...txt, data }] }), [])
  t.alike(advertsIn({ answers: [{ ...txt, name: 'x._other._udp.local', type: 'TXT', data: txt?.data }] }), [])
})

test('a mesh that is told of is found, and not once it is over', { timeout: 20_000 }, async (t) => {
  const advert = advertOf(2)
  const isIt = ({ mesh }: Advert) => mesh === advert.mesh
  const told = await advertise(advert, HERE)
  t.alike(await look(isIt), [advert])
  t.alike(await look(() => false), [])
  const impostor = await advertise({ ...advert, authority: peerKey(7), name: 'other' }, HERE)
  t.alike(
    (await look(isIt)).map(({ name }) => name),
    ['machine2', 'other'],
    'two that contradict each other are both told',
  )
  await Promise.all([told.stop(), impostor.stop()])
  t.alike(await look(isIt), [])
})

test('however many ask, it answers once a second', { timeout: 20_000 }, async (t) => {
  const advert = advertOf(3)
  const told = await advertise(advert, HERE)
  const asker = await openMdns(HERE)
  let answers = 0
  asker.on('response', (packet: Packet) => {
    answers += advertsIn(packet).filter(({ mesh }) => mesh === advert.mesh).length
  })
  const startedAt = performance.now()
  for (let i = 0; i < 40; i++) {
    asker.query([{ name: SERVICE, type: 'PTR' }])
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const seconds = (performance.now() - startedAt) / 1000
  t.ok(answers >= 1 && answers <= Math.ceil(seconds) + 1, `${answers} answers in ${seconds.toFixed(1)} s`)
  await Promise.all([told.stop(), closeMdns(asker)])
})

test('a flood of packets costs little, and an end of it is enough', { timeout: 30_000 }, async (t) => {
  const reader = await openMdns(HERE)
  let packets = 0
  reader.on('packet', () => {
    packets++
  })
  const flood = createSocket('udp4')
  await new Promise<void>((resolve) => flood.bind(0, HERE, resolve))
  flood.setMulticastInterface(HERE)
  // Names of 127 labels, by reference: the dearest packet of its size.
  const name = Buffer.concat([...Array.from({ length: 120 }, () => Buffer.from([1, 120])), Buffer.from([0])])
  const questions = Math.floor((1400 - 12 - name.length - 4) / 6)
  const packet = Buffer.concat([
    Buffer.from([0, 0, 0, 0, 0, questions + 1, 0, 0, 0, 0, 0, 0]),
    ...[name, Buffer.from([0, 12, 0, 1])],
    ...Array.from({ length: questions }, () => Buffer.from([0xc0, 12, 0, 12, 0, 1])),
  ])
  const send = (bytes: Buffer) =>
    new Promise<void>((resolve) => flood.send(bytes, 5353, '224.0.0.251', () => resolve()))
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  for (let i = 0; i < 1000; i++) {
    await send(i % 2 === 0 ? packet : Buffer.alloc(9000, 1))
    // The system keeps a few packets only for who does not read them at once.
    if (i % 4 === 3) await sleep(4)
  }
  await sleep(50)
  const most = 50 * (1 + Math.ceil((performance.now() - startedAt) / 1000))
  const usedMs = process.cpuUsage(cpu).user / 1000
  t.ok(packets >= 50 && packets <= most, `${packets} of 1000 were read, in ${usedMs.toFixed(0)} ms of this process`)
  flood.close()
  const advert = advertOf(4)
  const told = await advertise(advert, HERE)
  await until(async () => (await look(({ mesh }) => mesh === advert.mesh)).length === 1, 'after it all is as before')
  await Promise.all([told.stop(), closeMdns(reader)])
})
