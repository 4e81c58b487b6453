import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { type Command, CommanderError } from 'commander'
import { makeProgram } from '../cli/program.js'
import { placesOf } from '../cli/shared/completion-words.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'

/** Every command line that the pages and the help texts show, parsed by the program itself, which then does nothing. */

/** A command line and where it stands. */
interface Shown {
  where: string
  line: string
  /** In a sentence: where it is the name of a command alone, the command is spoken of. */
  isInText?: boolean
}

const PAGES = ['README.md', ...readdirSync(join(PACKAGE_ROOT, 'docs')).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith('.md'),
)

/** What stands for a value of one's own: `<name>`, `imv_…`. */
const PLACEHOLDER = /<[^<>]+>|…/

/** The program with every command, none of which does anything. */
async function idleProgram(): Promise<Command> {
  const program = await makeProgram(() => true)
  const visit = (command: Command) => {
    // What has subcommands only is no command line by itself.
    if (command.registeredArguments.length > 0 || command.commands.length === 0 || isRunnable(command))
      command.action(() => {})
    command.commands.forEach(visit)
  }
  visit(program)
  return program
}

/** Commands that have subcommands and do something without one, too. */
function isRunnable(command: Command): boolean {
  return ['invite', 'usage'].includes(command.name())
}

/**
 * The words of the first `infermesh` command of a shell line, as a shell would split them; undefined where there is none.
 * Placeholders are words, whatever is in them.
 */
function wordsOf(line: string): string[] | undefined {
  const start = /(?:^|[\s(=;&|])(?:npx )?infermesh(?= |$)/.exec(line)
  if (start === null) return undefined
  const rest = line.slice(start.index + start[0].length)
  const words: string[] = []
  for (const [word, quoted, single] of rest.matchAll(
    /"((?:[^"\\]|\\.)*)"|'([^']*)'|&&|[|;)&]|#.*$|(?:<[^<>]+>|[^\s"'|;)&<>])+|[<>]/g,
  )) {
    if (/^(&&|[|;)&<>]|#.*)$/.test(word)) break
    words.push(quoted ?? single ?? word)
  }
  return words
}

/** Those of a text's fenced shell blocks, and those in backticks that are whole. */
function shownIn(name: string, text: string): Shown[] {
  const blocks = [...text.matchAll(/```(?:sh|bash|console)\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
    block.replaceAll('\\\n', ' ').split('\n'),
  )
  const prose = text.replaceAll(/```[\s\S]*?```/g, '')
  const inline = [...prose.matchAll(/(?<!`)`((?:npx )?infermesh [a-z][^`]*)`/g)].map(([, line = '']) =>
    line.replaceAll(/\s+/g, ' '),
  )
  return [
    ...blocks.map((line) => ({ where: name, line })),
    ...inline.map((line) => ({ where: name, line, isInText: true })),
  ].filter(({ line }) => wordsOf(line) !== undefined)
}

/** Why the program would not take a line; undefined where it would. */
async function faultOf(line: string): Promise<string | undefined> {
  const words = wordsOf(line) ?? []
  try {
    await (await idleProgram()).parseAsync(words, { from: 'user' })
    return undefined
  } catch (err) {
    if (!(err instanceof CommanderError) || err.exitCode === 0) return undefined
    // A placeholder need not be one of the choices, nor a number.
    const [, value = ''] = /argument(?: value)? '(.*)' is invalid/.exec(err.message) ?? []
    return PLACEHOLDER.test(value) ? undefined : err.message
  }
}

/** Whether a line is the name of a command and nothing else. */
async function isName(line: string): Promise<boolean> {
  const at = (wordsOf(line) ?? []).reduce<Command | undefined>(
    (command, word) => command?.commands.find((sub) => sub.name() === word || sub.aliases().includes(word)),
    await idleProgram(),
  )
  return at !== undefined
}

async function check(t: { is: (a: unknown, b: unknown, m?: string) => void }, all: Shown[]): Promise<void> {
  for (const { where, line, isInText } of all) {
    const fault = isInText === true && (await isName(line)) ? undefined : await faultOf(line)
    t.is(fault, undefined, `${where}: ${line.trim()}`)
  }
}

test('every command line in the documentation is one that the program takes', async (t) => {
  const all = PAGES.flatMap((name) => shownIn(name, readFileSync(join(PACKAGE_ROOT, name), 'utf8')))
  for (const page of ['README.md', 'docs/operations.md', 'docs/cli.md']) {
    t.ok(all.filter(({ where }) => where === page).length >= 10, page)
  }
  await check(t, all)
})

test('every example in a help text is one that the program takes', async (t) => {
  const program = await idleProgram()
  const examples: Shown[] = []
  const visit = (command: Command, path: string) => {
    let help = ''
    command.configureOutput({ writeOut: (text) => (help += text) })
    command.outputHelp()
    const [, after = ''] = help.split(/^Examples?:$/m)
    const here = after.split('\n').filter((line) => wordsOf(line) !== undefined)
    t.ok(here.length > 0, `${path} --help has examples`)
    examples.push(...here.map((line) => ({ where: `${path} --help`, line })))
    for (const sub of command.commands) visit(sub, `${path} ${sub.name()}`)
  }
  visit(program, 'infermesh')
  t.ok(examples.length > 60)
  await check(t, examples)
})

test('a line that the program does not take is noticed', async (t) => {
  for (const [line, fault] of [
    ['infermesh frobnicate', /frobnicate/],
    ['infermesh run --no-such "a b"', /--no-such/],
    ['infermesh members accept', /missing required argument/],
    ['infermesh network lan wan', /too many arguments/],
    ['X=1 infermesh keys create --rpm many && true', /whole number/],
    ['infermesh network wan', /Allowed choices/],
    ['infermesh keys', /commander.help|\(outputHelp\)/],
  ] as const) {
    t.ok(fault.test((await faultOf(line)) ?? ''), `${line}: ${await faultOf(line)}`)
  }
  t.alike(wordsOf('A=$(npx infermesh keys create --json | jq -r .key)  # made'), ['keys', 'create', '--json'])
  t.alike(wordsOf('git diff | infermesh run "Review this"   # all'), ['run', 'Review this'])
  t.alike(wordsOf('infermesh login <connect string> --home <a b>'), ['login', '<connect string>', '--home', '<a b>'])
  t.is(wordsOf('cd ~/.infermesh'), undefined)
})

test('completion knows what each first argument is', async (t) => {
  /** Words of a person’s own, and what only another machine knows. */
  const own = ['run', 'join', 'login', 'register', 'users add', 'proxy']
  const program = await makeProgram(() => true)
  for (const { path, argument } of placesOf(program)) {
    const command = path
      .split(' ')
      .filter(Boolean)
      .reduce<Command | undefined>((at, name) => at?.commands.find((sub) => sub.name() === name), program)
    if ((command?.registeredArguments.length ?? 0) > 0 && !own.includes(path)) t.ok(argument !== undefined, path)
  }
})
