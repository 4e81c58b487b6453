import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { ERROR_CODES } from '../lib/errors/errors.js'
import { HTTP_CODES } from '../lib/protocol/http.js'
import { isDiskFull, MeshError } from '../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'

test('docs/errors.md lists every code with its HTTP status and exit code, and no other', (t) => {
  const docs = readFileSync(join(PACKAGE_ROOT, 'docs', 'errors.md'), 'utf8')
  const rows = ERROR_CODES.map((code) => {
    const { httpStatus, exitCode } = MeshError[code]('x')
    return `| \`${code}\` | ${httpStatus} | ${exitCode} |`
  })
  t.alike([...docs.matchAll(/^\| `[A-Z_]+` \| \d+ \| \d+ \|/gm)].map(([row]) => row).sort(), rows.sort())
})

test('docs/errors.md lists every code that is of HTTP alone', (t) => {
  const [, docs = ''] = readFileSync(join(PACKAGE_ROOT, 'docs', 'errors.md'), 'utf8').split('## Of HTTP alone')
  t.alike([...docs.matchAll(/^\| `([a-z_]+)` \| \d/gm)].map(([, code = '']) => code).sort(), [...HTTP_CODES].sort())
})

test('an error crosses the wire with its code, message and details', (t) => {
  const sent = MeshError.RATE_LIMITED('too many', { retryAfterMs: 1500, requestId: 'r' })
  const read = MeshError.fromJSON(JSON.parse(JSON.stringify(sent)))
  t.ok(read instanceof MeshError)
  t.is(read.code, 'RATE_LIMITED')
  t.is(read.message, 'too many')
  t.is(read.retryAfterMs, 1500)
})

test('an error body that cannot be read becomes INTERNAL and nothing else', (t) => {
  for (const body of [
    null,
    7,
    'x',
    {},
    { code: 'toString', message: 'x' },
    { code: 'NOPE', message: 'x' },
    { code: 'BUSY' },
  ]) {
    t.is(MeshError.fromJSON(body).code, 'INTERNAL')
  }
  t.alike(MeshError.fromJSON({ code: 'BUSY', message: 'x', details: 'y' }).details, {})
})

test('a full disk is known by whatever says so', (t) => {
  const system = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  const library = new Error('Batch was not applied', {
    cause: new Error('While appending to file: x.log: No space left on device'),
  })
  for (const err of [system, library, MeshError.DISK_FULL('x'), MeshError.STORE_INVALID('x', {}, { cause: system })]) {
    t.ok(isDiskFull(err), err.message)
  }
  for (const err of [new Error('no such file'), 'ENOSPC', undefined, MeshError.BUSY('x')]) t.absent(isDiskFull(err))
  t.alike([MeshError.from(library).code, MeshError.from(library).exitCode], ['DISK_FULL', 69])
  t.is(MeshError.from(library, 'BAD_REQUEST', 'x').code, 'DISK_FULL', 'nobody else is to blame')
  const round = new Error('a')
  round.cause = round
  t.absent(isDiskFull(round), 'a cause of itself ends')
})
