import test from 'brittle'
import { MeshError } from '../lib/errors/index.js'
import { jsonFault, parseJson, REQUEST_BOUNDS } from '../lib/protocol/index.js'

const MIB = 1024 * 1024
const nested = (depth: number, open = '[', close = ']') => open.repeat(depth) + close.repeat(depth)

test('JSON nested deeper than 128 levels, and a key that stands twice, are refused before parsing', (t) => {
  t.is(jsonFault(nested(128)), undefined)
  t.is(jsonFault(nested(129)), 'it is nested deeper than 128 levels')
  t.is(jsonFault('{"a":'.repeat(129)), 'it is nested deeper than 128 levels')
  t.is(jsonFault(`[${'[1],'.repeat(1000)}[1]]`), undefined, 'lists beside each other are not deep')
  t.is(jsonFault('{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}'), undefined)
  t.is(jsonFault('{"a":1,"b":{"c":1},"a":2}'), 'the key "a" stands twice in one object')
  t.is(jsonFault('{"a":1,"\\u0061":2}'), 'the key "a" stands twice in one object', 'however it is written')
  t.is(jsonFault('{"":1,"":2}'), 'the key "" stands twice in one object')
  t.is(jsonFault('["a","a",{"a":"a"}]'), undefined, 'values may')
  t.is(jsonFault('{"x":{"__proto__":1}}'), 'the key "__proto__" would change the prototype of objects')
  t.is(jsonFault('{"constructor":{"prototype":1}}'), 'the key "prototype" would change the prototype of objects')
  t.is(jsonFault('{"constructor":{"a":1},"prototype":2}'), undefined)
})

test('what stands in a text is no structure', (t) => {
  for (const text of ['[[[[', '{"a":1,"a":1}', '\\"', '"', '\\', '\u0000', '💥', '}]']) {
    const json = JSON.stringify({ [text]: text, list: [text, text], again: { [text]: text } })
    t.is(jsonFault(json, REQUEST_BOUNDS), undefined, json)
  }
})

test('the structure of a request is bounded, the length of its texts is not', (t) => {
  const list = (unit: string, n: number) => `[${Array.from({ length: n }, () => unit).join(',')}]`
  const keys = (n: number) => `{${Array.from({ length: n }, (_, i) => `"k${i}":1`).join(',')}}`
  t.is(jsonFault(list('1', 300_000), REQUEST_BOUNDS), undefined)
  t.is(jsonFault(list('1', 400_002), REQUEST_BOUNDS), 'it has more than 400000 values')
  t.is(jsonFault(list('{"role":"user","content":"x"}', 10_000), REQUEST_BOUNDS), undefined)
  t.is(jsonFault(list('{"a":1,"b":1}', 40_000), REQUEST_BOUNDS), 'it has more than 65536 keys')
  t.is(jsonFault(keys(16_384), REQUEST_BOUNDS), undefined)
  t.is(jsonFault(keys(16_385), REQUEST_BOUNDS), 'it has more than 16384 different keys')
  t.is(jsonFault(JSON.stringify('x'.repeat(4 * MIB)), REQUEST_BOUNDS), undefined)
  t.is(jsonFault(keys(20_000)), undefined, 'a store of our own may have more')
})

test('looking costs by the length alone, and microseconds for what is small', (t) => {
  const bestMs = (work: () => void, times = 5): number => {
    let best = Number.POSITIVE_INFINITY
    for (let i = 0; i < times; i++) {
      const from = performance.now()
      work()
      best = Math.min(best, performance.now() - from)
    }
    return best
  }
  const units = ['[', '{"a":', '[],', '1,', '"\\"",', '{"a":1,"b":2},', '"k', '\\', '"\\u0061":1,', 'x']
  for (const unit of units) {
    const mib = unit.repeat(MIB / unit.length)
    const text = `{"x":[${mib}`
    const once = bestMs(() => jsonFault(text))
    t.ok(once < 250, `1 MiB of ${unit}: ${once.toFixed(1)} ms`)
  }
  const small = JSON.stringify({ messages: Array(12).fill({ role: 'user', content: 'Say "hello"!\n'.repeat(10) }) })
  const each = bestMs(() => {
    for (let i = 0; i < 500; i++) jsonFault(small, REQUEST_BOUNDS)
  })
  t.comment(`${small.length} bytes: ${(each * 2).toFixed(1)} µs`)
  t.ok(each / 500 < 0.2, `${small.length} bytes: ${(each * 2).toFixed(1)} µs`)
})

test('whatever is no JSON, or no UTF-8, is an error of the protocol’s own', (t) => {
  for (const bytes of ['', '{', '[1,]', '{"a"}', nested(200), '{"a":1,"a":1}', '\u0000', '"\\ud8"']) {
    try {
      parseJson(Buffer.from(bytes), 'The text')
      t.fail(`${bytes} was read`)
    } catch (err) {
      t.is(err instanceof MeshError && err.code, 'BAD_REQUEST')
    }
  }
})
