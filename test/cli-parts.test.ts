import { mkdirSync } from 'node:fs'
import test from 'brittle'
import { completeChat } from '../cli/shared/chat-commands.js'
import { againText } from '../cli/shared/errors.js'
import { command } from '../cli/shared/hints.js'
import { bytesText, countText, durationText, table, timeText } from '../cli/shared/output.js'
import { budget, decimal, duration, integer, limitsOf, limitsText, list, port, since } from '../cli/shared/parse.js'
import { planWorkers } from '../cli/supervisor/plan.js'
import { homeFiles, homePath, writeProfile } from '../lib/home/index.js'
import { encodeKey } from '../lib/protocol/index.js'
import { infermesh } from './helpers/process.js'

/** How the command reads option values and writes figures. */

test('option values are read, and what is wrong is refused with what was expected', async (t) => {
  t.is(integer('60'), 60)
  t.is(port('65535'), 65_535)
  t.is(decimal('0.5'), 0.5)
  t.alike(list(' a, b,,c '), ['a', 'b', 'c'])
  t.alike(budget('2M/month'), { tokens: 2_000_000, period: 'month' })
  t.alike(budget('500k/total'), { tokens: 500_000, period: 'total' })
  t.alike(budget('7/day'), { tokens: 7, period: 'day' })
  const times = {
    '90s': 90_000,
    '30m': 1_800_000,
    '2min': 120_000,
    '12h': 43_200_000,
    '1d': 86_400_000,
    '2w': 1_209_600_000,
  }
  for (const [text, ms] of Object.entries(times)) t.is(duration(text), ms, text)
  t.is(since('2026-01-31'), Date.UTC(2026, 0, 31))
  t.ok(Math.abs(since('1h') - (Date.now() - 3_600_000)) < 1000)
  for (const [read, text, expected] of [
    [integer, '1.5', /whole number/],
    [integer, '-1', /whole number/],
    [port, '65536', /0 to 65535/],
    [decimal, ' ', /Expected a number/],
    [decimal, 'warm', /Expected a number/],
    [budget, '100', /100000\/day/],
    [budget, '5G/day', /100000\/day/],
    [duration, '5 years', /such as 90s/],
    [since, 'yesterday', /or a date/],
    [since, '2026-13-77', /or a date/],
  ] as const) {
    await t.exception(() => read(text), expected, `${read.name} ${text}`)
  }
})

test('`up` changes no network, and says which command does', async (t) => {
  const home = await t.tmp()
  t.ok(planWorkers(home, { network: 'lan' }).makesMesh)
  const key = encodeKey(Buffer.alloc(32, 1))
  writeProfile(home, { address: key, authority: key, network: { kind: 'local', bootstrap: [] } })
  t.absent(planWorkers(home, { network: 'local' }).makesMesh)
  const refused = (options: Parameters<typeof planWorkers>[1], expected: RegExp) =>
    t.exception(() => planWorkers(home, options), expected)
  await refused(
    { network: 'public' },
    /--network public: the mesh of .* is local\. `infermesh network public` changes that where the mesh was made/,
  )
  mkdirSync(homeFiles(home).worker('auth', 'auth'), { recursive: true })
  await refused(
    { network: 'lan', netHost: '10.0.0.1' },
    /`infermesh network lan --net-host 10\.0\.0\.1 --home \/.*` changes that, and then `infermesh up --home \//,
  )
  await refused({ netHost: '10.0.0.1' }, /`infermesh network lan --net-host 10\.0\.0\.1 --home/)
  await refused({ bootstrap: ['10.0.0.1:1'] }, /is local\. `infermesh network private --bootstrap 10\.0\.0\.1:1 --home/)
  const network = { kind: 'private' as const, bootstrap: ['10.0.0.1:1', '10.0.0.2:2'] }
  writeProfile(home, { address: key, authority: key, network })
  t.absent(planWorkers(home, { network: 'private', bootstrap: [...network.bootstrap].reverse() }).makesMesh)
  await refused(
    { bootstrap: ['10.0.0.2:2'] },
    /is private, found at 10\.0\.0\.1:1, 10\.0\.0\.2:2\. `infermesh network private/,
  )
})

test('a command that somebody should type means the home that is spoken of', async (t) => {
  const home = await t.tmp()
  t.is(command('up', homePath()), '`infermesh up`')
  t.is(command('up', home), `\`infermesh up --home ${home}\``)
  t.is(command('up', "/it's here"), "`infermesh up --home '/it'\\''s here'`")
  const said = async (args: string[]) => (await infermesh([...args, '--home', home])).stderr
  const here = `--home ${home}\``
  for (const [args, expected] of [
    [
      ['up', '--detach', '--role', 'gateway'],
      `make one with \`infermesh up ${here}, or join one with \`infermesh join <invite> ${here}`,
    ],
    [['network', 'lan'], `\`infermesh up --network lan ${here} makes one`],
    [['network', '--net-host', '10.0.0.1'], `such as \`infermesh network lan ${here}`],
    [['login', 'imv_0'], `\`infermesh join <invite> ${here} takes it`],
  ] as const) {
    const stderr = await said([...args])
    t.ok(stderr.includes(expected), stderr)
  }
  const doctor = await infermesh(['doctor', '--home', home])
  t.ok(doctor.stdout.includes(`\`infermesh login <connect string> ${here} uses one`), doctor.stdout)
})

test('Tab in a chat offers commands, and what a command says may come behind it', async (t) => {
  const accept = {
    argument: '<code>',
    help: '',
    complete: async () => ['k7q-3mf', 'abc-def', 'k9x-111'],
    run: async () => {},
  }
  const complete = (text: string) => completeChat(text, { '/accept': accept }, async () => ['phi-4', 'tiny'])
  t.alike(await complete('/ac'), { from: 0, choices: ['/accept '] })
  t.alike(await complete('/accept k'), { from: 8, choices: ['k7q-3mf', 'k9x-111'] })
  t.alike(await complete('/model p'), { from: 7, choices: ['phi-4'] })
  t.alike(await complete('/stats k'), { from: 7, choices: [] })
})

test('limits are told in the words of the options', (t) => {
  const options = { rpm: 60, tpm: 5000, concurrent: 2, budget: budget('100k/day'), models: ['a', 'b'] }
  t.is(limitsText(limitsOf(options)), '60 requests/min, 5000 tokens/min, 2 at a time, 100k tokens a day, a+b')
  t.alike(limitsOf({}), {})
  t.is(limitsText({}), 'none')
})

test('figures are told in few signs', (t) => {
  t.alike([0, 1023, 1536, 20 * 1024, 3.5 * 1024 ** 3].map(bytesText), ['0 B', '1023 B', '1.5 KiB', '20 KiB', '3.5 GiB'])
  t.alike([9999, 10_000, 1_234_567, 3e7, 2e9, 5e12].map(countText), ['9999', '10k', '1.2M', '30M', '2.0B', '5.0T'])
  t.alike([8.4, 420.4, 996, 4200, 12_300, 59_999, 200_000, 5 * 3_600_000, 50 * 3_600_000].map(durationText), [
    '8 ms',
    '0.42 s',
    '1.0 s',
    '4.2 s',
    '12 s',
    '59 s',
    '3 min',
    '5 h',
    '2 d',
  ])
  t.is(timeText(undefined), '-')
  t.is(timeText(new Date(2026, 0, 31, 15, 4).getTime()), '2026-01-31 15:04')
})

test('a table is aligned, numbers to the right, and nothing in a cell breaks its line', (t) => {
  const lines = table(
    ['NAME', 'TOKENS', 'NOTE'],
    [
      ['ann', '5', 'one\ntwo'],
      ['somebody', '1200', ''],
    ],
  )
  t.alike(lines, ['NAME      TOKENS  NOTE', 'ann            5  one two', 'somebody    1200'])
})

test('what a limit or a queue refuses says when to try again, once', (t) => {
  const refused = { code: 'RATE_LIMITED', message: 'The key has sent 1 request', details: { retryAfterMs: 1200 } }
  t.is(againText(refused), 'The key has sent 1 request. Try again in 2 s')
  t.is(againText({ ...refused, message: 'Too many. Try again in 2 s' }), 'Too many. Try again in 2 s')
  t.is(againText({ ...refused, code: 'QUOTA_EXCEEDED' }), refused.message)
  t.is(againText({ code: 'RATE_LIMITED', message: 'no' }), 'no')
})
