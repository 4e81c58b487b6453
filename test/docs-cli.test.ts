import test from 'brittle'
import { readPage, sectionsOf } from './helpers/page.js'
import { infermesh } from './helpers/process.js'

/** docs/cli.md against the commands and options that the program itself completes. */

interface Command {
  /** `keys create`, or `` for the program. */
  path: string
  commands: string[]
  options: string[]
}

/** Every command, as shell completion knows it. */
async function commands(): Promise<Command[]> {
  const { stdout } = await infermesh(['completion', 'bash'])
  return [...stdout.matchAll(/^ +"([a-z ]*)"\) candidates="(.*)" ;;$/gm)].map(([, path = '', words = '']) => {
    const all = words.split(' ').filter(Boolean)
    return {
      path,
      commands: all.filter((word) => !word.startsWith('-')),
      options: all.filter((word) => word.startsWith('--')),
    }
  })
}

test('docs/cli.md tells every command with its options, and no others', async (t) => {
  const all = await commands()
  const program = all.find(({ path }) => path === '') as Command
  t.ok(program.commands.length > 10)
  const page = readPage('cli.md')
  const sections = [...sectionsOf(page)]
  for (const option of program.options) t.ok(page.includes(option), `${option}, for every command`)

  const told = new Set<string>()
  for (const [title, text] of sections) {
    const here = [...title.matchAll(/`infermesh (\w+)/g)].map(([, name = '']) => name)
    if (here.length === 0) continue
    for (const name of here) {
      t.ok(program.commands.includes(name), `${name} is a command`)
      told.add(name)
      const { commands: subs } = all.find(({ path }) => path === name) as Command
      for (const sub of subs) t.ok(new RegExp(`\\b${name} ${sub}\\b`).test(text), `${name} ${sub} is told`)
    }
    const options = new Set(
      all
        .filter(({ path }) => here.includes(path.split(' ')[0] as string))
        .flatMap((command) => command.options)
        .filter((option) => !program.options.includes(option)),
    )
    for (const option of options) t.ok(text.includes(option), `${here}: ${option} is told`)
    const named = [...text.matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map(([option]) => option)
    t.alike(
      named.filter((option) => !options.has(option) && !program.options.includes(option)),
      [],
      `${here} have the options that are told`,
    )
  }
  t.alike([...told].sort(), [...program.commands].sort(), 'every command has its section')
})
