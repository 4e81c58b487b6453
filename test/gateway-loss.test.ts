import test, { type Test } from 'brittle'
import Hyperbee from 'hyperbee'
import {
  type Finish,
  inferenceRequestSchema,
  journalGroupSchema,
  newRequestId,
  type StoredRecord,
} from '../lib/protocol/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import {
  adminKey,
  type Child,
  spawnNode,
  start,
  startAuth,
  startStranger,
  testHome,
  testOptions,
  until,
} from './helpers/mesh.js'

/** A processor's process is lost between taking a request and its first token: another one answers. */

/** Until the first token: long enough to lose the processor in. */
const PREFILL_MS = 1000
const WORDS = 5

test('a processor that is killed before the first token: the caller gets its whole answer from another', {
  timeout: 60_000,
}, async (t) => {
  await loseOne(t, (child) => child.process.kill('SIGKILL'))
})

test('a processor that is stopped before the first token: the caller gets its whole answer from another', {
  timeout: 60_000,
}, async (t) => {
  // What the child is given with the test's end lets it go on, and ends it.
  await loseOne(t, (child) => child.process.kill('SIGSTOP'))
})

async function loseOne(t: Test, lose: (child: Child) => void): Promise<void> {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  const env = { STAND_IN_SLOTS: '4', STAND_IN_PREFILL_MS: String(PREFILL_MS), STAND_IN_TOKENS_PER_S: '100' }
  const children = new Map(
    ['p1', 'p2'].map((name) => [name, spawnNode(t, 'bench/stand-in-processor.js', [home, name], env)]),
  )
  const ready = () => gateway.net.linksTo('processor').filter(({ load }) => load?.models[0]?.state === 'loaded')
  await until(() => ready().length === 2, 'both processors have the model', 30_000)
  const url = `${gateway.status().addresses.http}/readyz`
  await until(async () => (await fetch(url)).ok, 'the gateway serves')
  const client = await startStranger(t, home, gateway.publicKey)
  const authority = await startStranger(t, home, auth.publicKey)
  const key = adminKey(home)

  const request = inferenceRequestSchema.parse({ kind: 'completion', prompt: 'count', maxTokens: WORDS })
  const started: string[] = []
  let text = ''
  let finish: Finish | undefined
  for await (const event of client.generate({ requestId: newRequestId(), key, request })) {
    if (event.type === 'started') {
      started.push(event.processor)
      const child = children.get(event.processor)
      if (started.length === 1 && child !== undefined) lose(child)
    }
    if (event.type === 'tokens') {
      t.is(event.index, text.split(' ').length - 1, 'no token is missing, none comes twice')
      text += event.text
    }
    if (event.type === 'finish') finish = event
  }
  const [lost, other] = started
  t.alike([...started].sort(), ['p1', 'p2'], `${lost} was lost, ${other} answered`)
  t.is(text, '0 1 2 3 4 ')
  t.is(finish?.usage.completionTokens, WORDS)
  t.is(finish?.route?.processor, other)

  const records = () => recordsOf(gateway)
  await until(async () => (await records()).length > 0, 'the record is stored')
  t.alike(
    (await records()).map(({ processor, outcome, completionTokens }) => [processor, outcome, completionTokens]),
    [[other, 'stop', WORDS]],
    'one record, which names the processor that answered',
  )
  const { rows } = await authority.call('usage.query', { by: ['user'] }, { key })
  t.alike(
    rows.map(({ requests, failures, completionTokens }) => [requests, failures, completionTokens]),
    [[1, 0, WORDS]],
    'and the authority counts it once',
  )
}

async function recordsOf(gateway: GatewayWorker): Promise<StoredRecord[]> {
  const bee = new Hyperbee(gateway.store.journal(), { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  const all: StoredRecord[] = []
  for await (const { value } of bee.createReadStream({ gt: 'record/', lt: 'record0' })) {
    all.push(...journalGroupSchema.parse(JSON.parse(value.toString())))
  }
  return all
}
