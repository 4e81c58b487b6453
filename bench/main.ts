import { cpus } from 'node:os'
import { VERSION } from '../lib/worker-base/index.js'
import type { Figure } from './harness.js'
import { http } from './http.js'
import { overhead } from './overhead.js'
import { schemas } from './schemas.js'
import { startup } from './startup.js'
import { streams } from './streams.js'
import { trust } from './trust.js'

/** `npm run bench` runs all; `npm run bench -- overhead streams` runs those. Exits with 1 where a target is missed. */
const benches: Record<string, () => Promise<Figure[]>> = { startup, overhead, http, streams, trust, schemas }

function print(name: string, figures: Figure[]): void {
  process.stdout.write(`\n## ${name}\n\n| figure | measured | target | |\n|---|---|---|---|\n`)
  for (const { what, value, target = '', met } of figures) {
    process.stdout.write(`| ${what} | ${value} | ${target} | ${met === undefined ? '' : met ? 'met' : 'MISSED'} |\n`)
  }
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !Object.hasOwn(benches, name))
if (unknown.length > 0) {
  process.stderr.write(`There is no bench named ${unknown.join(', ')}; there are ${Object.keys(benches).join(', ')}\n`)
  process.exit(64)
}
process.stdout.write(
  `infermesh ${VERSION}, Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown CPU'}\n`,
)
let missed = false
for (const [name, run] of Object.entries(benches)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue
  const figures = await run()
  print(name, figures)
  missed ||= figures.some(({ met }) => met === false)
}
process.exit(missed ? 1 : 0)
