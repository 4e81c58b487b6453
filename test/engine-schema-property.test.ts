import { Ajv2020 } from 'ajv/dist/2020.js'
import test from 'brittle'
import { MeshError } from '../lib/protocol/index.js'
import { jsonSchemaToGbnf } from '../workers/processor/engine/json/grammar.js'
import type { EnforceMode } from '../workers/processor/engine/json/mode.js'
import { Dice } from './helpers/dice.js'
import { Drawing } from './helpers/grammar-draws.js'
import { without } from './helpers/left-out.js'
import { makeSchema, type Schema } from './helpers/schema-maker.js'

/**
 * What the grammar of a schema lets through fits the schema: of schemas that are made by chance, texts are drawn by chance
 * from their grammars, and another program validates each. SCHEMA_SEED and SCHEMA_COUNT make other and more of them.
 */

const SEED = Number(process.env.SCHEMA_SEED ?? 20_261_121)
const COUNT = Number(process.env.SCHEMA_COUNT ?? 1500)
const DRAWS = 12

/** Counts by name. */
class Tally {
  readonly #counts = new Map<string, number>()

  add(what: string, count = 1): void {
    this.#counts.set(what, this.of(what) + count)
  }

  of(what: string): number {
    return this.#counts.get(what) ?? 0
  }

  toString(): string {
    return [...this.#counts].map(([what, count]) => `${count} ${what}`).join(', ')
  }
}

function reasonOf(err: unknown): string {
  if (!(err instanceof MeshError) || err.code !== 'BAD_REQUEST') throw err
  if (err.details.limit !== undefined) return 'beyond a bound'
  if (/applies to itself/.test(err.message)) return 'applying to themselves'
  return /no value|nothing fits|none of the values|no number|no string|is less than|no list|no property/.test(
    err.message,
  )
    ? 'that nothing fits'
    : 'not enforceable in strict mode'
}

test('whatever a grammar lets through fits its schema, of schemas made by chance', { timeout: 600_000 }, (t) => {
  const tally = new Tally()
  const wrong: string[] = []
  for (let i = 0; i < COUNT; i++) {
    const seed = SEED + i
    const dice = new Dice(seed)
    const schema = makeSchema(dice)
    const mode: EnforceMode = dice.below(3) === 0 ? 'strict' : 'lenient'
    tally.add('schemas')
    try {
      check(schema, mode, dice, tally, (fault) => wrong.push(`seed ${seed}, ${mode}: ${fault}`))
    } catch (err) {
      const reason = reasonOf(err)
      tally.add(reason)
      if (mode === 'lenient' && reason === 'not enforceable in strict mode')
        wrong.push(`seed ${seed}: ${String(err)} ${JSON.stringify(schema)}`)
    }
  }
  t.comment(`seed ${SEED}: ${tally}`)
  t.alike(wrong.slice(0, 8), [], `${wrong.length} are wrong`)
  t.ok(tally.of('texts') > 8 * COUNT * 0.7, `${tally.of('texts')} texts were drawn`)
  t.ok(tally.of('unfinished') < tally.of('texts') / 50, `${tally.of('unfinished')} have not come to an end`)
})

/** @throws MeshError BAD_REQUEST where the schema has no grammar */
function check(schema: Schema, mode: EnforceMode, dice: Dice, tally: Tally, onFault: (fault: string) => void): void {
  const leftOut: { schema: Schema; keyword: string }[] = []
  const grammar = jsonSchemaToGbnf(schema, 's', { mode, onLeftOut: (one) => leftOut.push(one) })
  const drawing = new Drawing(grammar)
  if (leftOut.length > 0) tally.add('with a keyword left out')
  const text = JSON.stringify(schema)
  const enforced = without(schema, leftOut)
  const fits = new Ajv2020({ strict: false, validateFormats: false, ownProperties: true }).compile(enforced)
  for (let i = 0; i < DRAWS; i++) {
    const drawn = drawing.draw(dice)
    tally.add(drawn === undefined ? 'unfinished' : 'texts')
    if (drawn === undefined || fits(JSON.parse(drawn))) continue
    onFault(
      `${drawn} of ${text}: ${JSON.stringify(fits.errors?.[0])}${leftOut.length > 0 ? ` without ${leftOut.map(({ keyword }) => keyword)}` : ''}`,
    )
    return
  }
}
