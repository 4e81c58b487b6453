import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { CLI, cliEnv, infermesh, runProgram, until } from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { NEEDS, Terminal } from './helpers/terminal.js'

/** Completion as shells do it, with a mesh that knows names. */

interface Place {
  bin: string
  dir: string
}

const home = mkdtempSync(join(tmpdir(), 'infermesh-completion-test-'))
let key = ''
let old = ''

// Where a test fails, its mesh must not go on.
process.once('exit', () => {
  spawnSync(process.execPath, [CLI, 'down', '--force'], { env: { PATH: process.env.PATH, ...cliEnv(home) } })
  rmSync(home, { recursive: true, force: true })
})

/** A folder with the command and its scripts. */
async function place(t: Test): Promise<Place> {
  const dir = await t.tmp()
  const bin = join(dir, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'infermesh'), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`)
  chmodSync(join(bin, 'infermesh'), 0o755)
  return { bin, dir }
}

/** Writes the script of a shell into its folder. */
async function scriptOf(t: Test, shell: string, { dir }: Place): Promise<void> {
  const { code, stdout, stderr } = await infermesh(['completion', shell])
  t.is(code, 0, stderr)
  writeFileSync(join(dir, shell), stdout)
}

test('a mesh with a user, a key, and one that was revoked', { timeout: 60_000 }, async (t) => {
  const up = await infermesh(['up', '--detach', '--no-check', '--http-port', '0', '--metrics-port', '0'], { home })
  t.is(up.code, 0, up.stderr)
  t.is((await infermesh(['users', 'add', 'annabel'], { home })).code, 0)
  const keyOf = async (label: string) => {
    const { stdout } = await infermesh(['keys', 'create', '--user', 'annabel', '--label', label, '--json'], { home })
    return (JSON.parse(stdout) as { id: string }).id
  }
  ;[key, old] = [await keyOf('the laptop'), await keyOf('old')]
  t.is((await infermesh(['keys', 'revoke', old], { home })).code, 0)
})

/** No mesh but what the line names. */
function envOf({ bin, dir }: Place): NodeJS.ProcessEnv {
  return { ...cliEnv(join(dir, 'none')), HOME: dir, PATH: `${bin}:${process.env.PATH}` }
}

/** The choices of bash for the last word of a line, which may be empty. */
async function inBash(here: Place, line: string): Promise<string[]> {
  const words = line.split(' ')
  const typed = words.map((word) => `'${word}'`).join(' ')
  const script = `source ${join(here.dir, 'bash')}; COMP_WORDS=(${typed}); COMP_CWORD=${words.length - 1}; _infermesh infermesh; printf '%s\\n' "\${COMPREPLY[@]}"`
  return choicesOf(['bash', '-c', script], here)
}

/** Those of fish, each with what it says of it behind a tab. */
async function inFish(here: Place, line: string): Promise<string[]> {
  return choicesOf(['fish', '--no-config', '-c', `source ${join(here.dir, 'fish')}; complete -C '${line}'`], here)
}

async function choicesOf(command: string[], here: Place): Promise<string[]> {
  const { stdout, stderr } = await runProgram(command, { env: envOf(here) })
  if (stderr !== '') throw new Error(stderr)
  return stdout.split('\n').filter(Boolean)
}

/** Checks choices that are looked up: what takes too long on a busy machine offers nothing, and is asked for again. */
async function completes(t: Test, line: string, choices: () => Promise<string[]>, expected: string[]): Promise<void> {
  let last: string[] = []
  const isSame = async () => {
    last = await choices()
    return last.join() === expected.join()
  }
  try {
    await until(isSame, line, 20_000)
    t.pass(`${line}: ${expected}`)
  } catch {
    t.alike(last, expected, line)
  }
}

/** Presses Tab behind a line until that shows something: what takes too long on a busy machine offers nothing. */
async function tab(shell: Terminal, line: string, expected: RegExp): Promise<string> {
  for (let left = 5; ; left--) {
    shell.type(`\x15\x0b${line}\t`)
    try {
      return await shell.sees(expected, 4000)
    } catch (err) {
      if (left === 0) throw err
    }
  }
}

test('bash completes commands, options and what the mesh knows', { timeout: 120_000 }, async (t) => {
  const here = await place(t)
  await scriptOf(t, 'bash', here)
  const mesh = `--home ${home}`
  t.alike(await inBash(here, 'infermesh mo'), ['models'])
  t.ok((await inBash(here, 'infermesh models ')).includes('default'))
  t.absent(
    (await inBash(here, 'infermesh models ')).some((word) => word.startsWith('-')),
    'options where one is begun',
  )
  t.ok((await inBash(here, 'infermesh run --')).includes('--max-tokens'))
  t.alike(await inBash(here, 'infermesh up --network p'), ['private', 'public'])
  t.alike(await inBash(here, 'infermesh completion '), ['bash', 'zsh', 'fish'])
  t.alike(await inBash(here, 'infermesh gpu install c'), ['cpu', 'cuda'])
  t.alike(await inBash(here, 'infermesh network p'), ['private', 'public'])
  t.alike(await inBash(here, 'infermesh keys create --label '), [], 'a word of one’s own')
  for (const [line, expected] of [
    [`models default ${mesh} `, ['infermesh-tiny']],
    [`--home ${home} models rm inf`, ['infermesh-tiny']],
    [`models remove --home = ${home} inf`, ['infermesh-tiny']],
    [`run ${mesh} -m `, ['infermesh-tiny']],
    [`users rm ${mesh} an`, ['annabel']],
    [`keys create ${mesh} --user = an`, ['annabel']],
    [`keys revoke ${mesh} ${key.slice(0, 4)}`, [key]],
    [`keys revoke ${mesh} ${old.slice(0, 6)}`, []],
    [`keys show ${mesh} ${key.slice(0, 4)}`, [key]],
    [`users show ${mesh} an`, ['annabel']],
    [`members accept ${mesh} `, []],
    [`members remove ${mesh} m`, ['metrics']],
    [`models add x.gguf ${mesh} --processor `, ['processor']],
    [`logs ${mesh} gat`, ['gateway-gateway']],
  ] as const) {
    await completes(t, line, () => inBash(here, `infermesh ${line}`), [...expected])
  }
  const startedAt = performance.now()
  t.alike(await inBash(here, 'infermesh users rm '), [], 'without a mesh nothing, and no word of it')
  t.ok(performance.now() - startedAt < 5000)
})

testUnless(missingProgram(NEEDS), 'bash completes at its prompt', { timeout: 60_000 }, async (t) => {
  const here = await place(t)
  await scriptOf(t, 'bash', here)
  const { dir } = here
  const shell = new Terminal(t, home, ['--norc', '--noprofile', '-i'], {
    program: ['bash'],
    env: { ...envOf(here), PS1: 'ready> ' },
  })
  await shell.sees(/ready> $/)
  shell.type(`source ${join(dir, 'bash')}\r`)
  await shell.sees(/ready> $/)
  await tab(shell, `infermesh models default --home ${home} inf`, /infermesh-tiny $/)
  shell.type('\x15exit\r')
  await shell.exited
})

testUnless(
  missingProgram('zsh --version', NEEDS),
  'zsh completes, and says what each key is',
  { timeout: 60_000 },
  async (t) => {
    const here = await place(t)
    await scriptOf(t, 'zsh', here)
    const { dir } = here
    const mesh = `--home ${home}`
    const shell = new Terminal(t, home, ['-f', '-i'], { program: ['zsh'], env: { ...envOf(here), PS1: 'ready> ' } })
    await shell.sees(/ready> /)
    shell.type(
      `autoload -Uz compinit && compinit -u -d ${join(dir, 'dump')}; source ${join(dir, 'zsh')}; echo set up\r`,
    )
    await shell.sees(/\nset up\n[\s\S]*ready> /)
    // Of several it shows what each is.
    t.ok(await tab(shell, `infermesh keys revoke ${mesh} `, /the laptop, annabel/))
    // Where one fits it is put in: echo says what stands there then.
    for (const [line, whole] of [
      [`users rm --home ${home} anna`, `users rm --home ${home} annabel`],
      ['up --network pri', 'up --network private'],
      ['comp', 'completion'],
    ]) {
      let shown = ''
      for (let left = 5; left > 0 && !shown.includes(`\ninfermesh ${whole}\n`); left--) {
        shell.type(`\x15\x0binfermesh ${line}\t\x01echo \r`)
        shown = await shell.sees(/\ninfermesh .*\n/)
      }
      t.ok(shown.includes(`\ninfermesh ${whole}\n`), shown)
    }
    shell.type('\x15\x0bexit\r')
    await shell.exited
  },
)

testUnless(
  missingProgram('fish --version'),
  'fish completes, and says what each key is',
  { timeout: 60_000 },
  async (t) => {
    const here = await place(t)
    await scriptOf(t, 'fish', here)
    const mesh = `--home ${home}`
    t.alike(await inFish(here, 'infermesh mo'), ['models\tlist, add and remove models'])
    t.alike(await inFish(here, 'infermesh up --network p'), [
      'private\twho can find the mesh that this makes (default: local); later: `infermesh network`',
      'public\twho can find the mesh that this makes (default: local); later: `infermesh network`',
    ])
    for (const [line, expected] of [
      [`keys revoke ${mesh} ${key.slice(0, 6)}`, [`${key}\tthe laptop, annabel`]],
      [`models rm ${mesh} inf`, ['infermesh-tiny\tQ8_0']],
      [`users rm ${mesh} an`, ['annabel\tuser']],
    ] as const) {
      await completes(t, line, () => inFish(here, `infermesh ${line}`), [...expected])
    }
  },
)
