import test from 'brittle'
import { CreditQueue, type CreditWindow, decodeCredit, encodeCredit, SendCredit } from '../lib/link/credit.js'
import { MeshError } from '../lib/protocol/index.js'
import { codeOf } from './helpers/wait.js'

const WINDOW: CreditWindow = { bytes: 100, perMessage: 10 }

/** What a synchronous call throws, as the code of its error. */
const thrown = (work: () => unknown) => codeOf(Promise.resolve().then(work))

async function take<T>(queue: CreditQueue<T>, count: number): Promise<T[]> {
  const items = queue.read()
  const taken: T[] = []
  while (taken.length < count) taken.push((await items.next()).value as T)
  return taken
}

test('a sender has credit for its window, and its last message may overdraw it', (t) => {
  const credit = new SendCredit(WINDOW)
  for (let sent = 0; sent < 5; sent++) {
    t.ok(credit.isLeft)
    credit.spend(10)
  }
  t.absent(credit.isLeft, 'five messages of 10 bytes and 10 more fill 100')
  credit.add(1)
  credit.spend(1000)
  credit.add(900)
  t.absent(credit.isLeft, 'what was overdrawn is owed')
  credit.add(110)
  t.ok(credit.isLeft)
})

test('tiny messages are bounded by what each costs besides its bytes', (t) => {
  const credit = new SendCredit(WINDOW)
  let sent = 0
  while (credit.isLeft) {
    credit.spend(1)
    sent++
  }
  t.is(sent, 10)
})

test('no credit widens a window past its bound', (t) => {
  const credit = new SendCredit(WINDOW)
  for (let i = 0; i < 5; i++) credit.add(0xffff_ffff)
  credit.spend(90)
  t.absent(credit.isLeft)
})

test('a sender that waits is let go by credit, and by the end of the reading', async (t) => {
  const credit = new SendCredit(WINDOW)
  await credit.available()
  credit.spend(1000)
  let isThrough = false
  const waiting = credit.available().then(() => (isThrough = true))
  credit.add(50)
  await new Promise(setImmediate)
  t.absent(isThrough, 'too little was given back')
  credit.add(1000)
  await waiting
  credit.spend(1000)
  const both = Promise.all([credit.available(), credit.available()])
  credit.close()
  await both
  t.absent(credit.isLeft)
})

test('a reader gives credit back in quarters of the window, once it has consumed', async (t) => {
  const given: number[] = []
  const queue = new CreditQueue<number>(WINDOW, (credit) => given.push(credit))
  for (let i = 0; i < 10; i++) queue.push(i, 0)
  t.alike(given, [], 'what waits was not consumed')
  t.alike(await take(queue, 2), [0, 1])
  t.alike(given, [])
  t.alike(await take(queue, 7), [2, 3, 4, 5, 6, 7, 8])
  t.alike(given, [30, 30, 30])
  queue.end()
  t.alike(await take(queue, 1), [9])
  t.is(given.length, 3, 'after the end none is needed')
})

test('a message that comes without credit is refused, also after credit was given back', async (t) => {
  const queue = new CreditQueue<number>(WINDOW, () => {})
  queue.push(0, 500)
  t.is(await thrown(() => queue.push(1, 0)), 'BAD_REQUEST')
  await take(queue, 1)
  for (let i = 0; i < 10; i++) queue.push(i, 0)
  t.is(await thrown(() => queue.push(10, 0)), 'BAD_REQUEST')
})

test('both ends agree: what a sender may send, its reader takes, at any pace', async (t) => {
  const credit = new SendCredit(WINDOW)
  const queue = new CreditQueue<number>(WINDOW, (more) => credit.add(more))
  const sizes = Array.from({ length: 500 }, (_, i) => (i * 7919) % 130)
  const sending = (async () => {
    for (const size of sizes) {
      await credit.available()
      credit.spend(size)
      queue.push(size, size)
    }
    queue.end()
  })()
  const read: number[] = []
  for await (const size of queue.read()) {
    read.push(size)
    if (size % 3 === 0) await new Promise(setImmediate)
  }
  await sending
  t.alike(read, sizes)
})

test('reading that breaks off gives what came before, and then throws; after the end nothing breaks off', async (t) => {
  const queue = new CreditQueue<string>(WINDOW, () => {})
  queue.push('came', 4)
  queue.fail(MeshError.LINK_CLOSED('gone'))
  queue.fail(MeshError.CANCELLED('later'))
  t.ok(queue.over)
  t.absent(queue.ended)
  t.alike(await take(queue, 1), ['came'])
  t.is(await codeOf(take(queue, 1)), 'LINK_CLOSED')

  const whole = new CreditQueue<string>(WINDOW, () => {})
  whole.push('all', 3)
  whole.end()
  whole.fail(MeshError.LINK_CLOSED('gone'))
  const read: string[] = []
  for await (const item of whole.read()) read.push(item)
  t.alike(read, ['all'])
})

test('a reader that waits is woken by what comes, by the end and by a failure', async (t) => {
  const queue = new CreditQueue<string>(WINDOW, () => {})
  const first = take(queue, 1)
  queue.push('x', 1)
  t.alike(await first, ['x'])
  const rest = queue.read().next()
  queue.end()
  t.ok((await rest).done)
  const failing = new CreditQueue<string>(WINDOW, () => {})
  const waiting = codeOf(take(failing, 1))
  failing.fail(MeshError.CANCELLED('stop'))
  t.is(await waiting, 'CANCELLED')
})

test('credit survives encoding, and what is no credit is an error of the protocol’s own', async (t) => {
  for (const credit of [0, 1, 65_536, 0xffff_ffff]) t.is(decodeCredit(encodeCredit(credit)), credit)
  t.is(decodeCredit(new Uint8Array([9, 9, 7, 0, 0, 0]).subarray(2)), 7, 'from the middle of a frame')
  for (const bytes of [[], [1], [1, 2, 3], [1, 2, 3, 4, 5], Array(9).fill(255)])
    t.is(await thrown(() => decodeCredit(Buffer.from(bytes))), 'BAD_REQUEST', `${bytes.length} bytes`)
})
