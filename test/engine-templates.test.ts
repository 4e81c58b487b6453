import test, { type Test } from 'brittle'
import { BoundedTemplate } from '../workers/processor/engine/tools/bounded-template.js'

/** Chat templates that a file's maker wrote to do harm: each ends within its time, and what it writes has a bound. */

/** Generous: the machine may be busy. The bound that is asked for is BUDGET_MS. */
const LATE_MS = 5000
const BUDGET_MS = 300

const MESSAGES = [{ role: 'user', content: 'Hi there' }]

async function open(t: Test, source: string): Promise<BoundedTemplate> {
  const template = new BoundedTemplate(source)
  t.teardown(() => template.close())
  await template.ready
  return template
}

/** What a template says to the messages, or why it fails. */
function rendered(template: BoundedTemplate, variables: Record<string, unknown> = { messages: MESSAGES }): string {
  try {
    return template.within(BUDGET_MS, () => template.render(variables))
  } catch (err) {
    return String(err)
  }
}

test('an ordinary template is rendered as the library does', async (t) => {
  const template = await open(t, `{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ eos_token }}`)
  t.is(rendered(template), '<user>Hi there')
  t.is(rendered(template, { messages: MESSAGES, eos_token: '</s>', none: undefined }), '<user>Hi there</s>')
  t.is(template.exceeded, undefined)
})

for (const [what, source] of [
  ['loops for ever', '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}'],
  ['joins a list for ever', `{{ range(100000000)|join('aaaaaaaa') }}`],
] as const) {
  test(`a template that ${what} is ended, and the next prompt is served`, async (t) => {
    const template = await open(t, `{% if messages[0].content == 'bad' %}${source}{% endif %}fine`)
    const began = performance.now()
    t.ok(rendered(template, { messages: [{ role: 'user', content: 'bad' }] }).includes(`longer than ${BUDGET_MS} ms`))
    t.ok(performance.now() - began < LATE_MS)
    t.ok(template.exceeded?.includes(`${BUDGET_MS} ms`))
    await template.ready
    t.is(rendered(template), 'fine')
    t.is(template.exceeded, undefined)
  })
}

test('the time is one for all that is tried with a prompt', async (t) => {
  const template = await open(t, '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}')
  const began = performance.now()
  template.within(BUDGET_MS, () => {
    for (let i = 0; i < 100; i++) t.exception(() => template.render({}))
  })
  t.ok(performance.now() - began < LATE_MS)
})

test('a template may write its own words and what it is given, and not megabytes', async (t) => {
  const template = await open(
    t,
    `{% for i in range(10000) %}{{ messages[0].content }}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}`,
  )
  t.ok(rendered(template).includes('characters where at most'))
  t.ok(template.exceeded)
  const whole = await open(t, '{{ messages[0].content }}')
  t.is(rendered(whole, { messages: [{ content: 'a'.repeat(2_000_000) }] }).length, 2_000_000)
})

test('a template that nests without end, or makes a string without end, fails by itself', async (t) => {
  const parentheses = await open(t, `{{ ${'('.repeat(50_000)}1${')'.repeat(50_000)} }}`)
  t.ok(/call stack|longer than/.test(rendered(parentheses)))
  const double = await open(
    t,
    `{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}`,
  )
  t.ok(rendered(double).includes('Invalid string length'))
  const macro = await open(t, '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}')
  t.ok(rendered(macro).includes('Error'))
  t.is(rendered(await open(t, '{{ messages[0].content }}')), 'Hi there', 'and the process lives')
})
