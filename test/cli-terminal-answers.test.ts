import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { widthOf } from '../cli/terminal/width.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { runProgram } from './helpers/process.js'
import { NEEDS, Terminal } from './helpers/terminal.js'
import { until } from './helpers/wait.js'

/** Answers as a terminal shows them: tmux is the terminal, and says what stands on its screen. */

const CHILD = join(PACKAGE_ROOT, 'dist', 'test', 'answer-child.js')
const COLUMNS = 30

const ANSWER = `# A heading

The **quick** brown fox jumps over the \`lazy\` dog, and over a word that is longer than a line: ${'donaudampfschifffahrt'.repeat(2)}.
日本語のとても長い文章は単語の間に空白がありませんが、行の終わりで折り返されます。
Cafe\u0301 👍🏽 naïve.

- one **item that is long enough** to be broken twice over
\`\`\`
  kept = ['as', 'it', 'is', 'however long']
\`\`\`
2 * 3 ** 4`

/** The screen of a tmux window of its own, once the child has shown all, or once it shows something else. */
async function screenOf(t: Test, pieces: string[], { plain = false, until: shown = /END/ } = {}) {
  const dir = await t.tmp()
  const file = join(dir, 'pieces.json')
  writeFileSync(file, JSON.stringify(pieces))
  const socket = join(dir, 'tmux')
  const tmux = (...args: string[]) =>
    spawnSync('tmux', ['-f', '/dev/null', '-S', socket, ...args], { encoding: 'utf8' })
  t.teardown(() => tmux('kill-server'))
  const command = `'${process.execPath}' '${CHILD}' '${file}' ${plain ? 'plain' : ''}; sleep 30`
  const size = ['-x', String(COLUMNS), '-y', '60']
  const started = tmux('new-session', '-d', ...size, '-e', 'LANG=C.UTF-8', command)
  t.is(started.status, 0, started.stderr)
  const screen = () => tmux('capture-pane', '-p', '-t', '0').stdout.trimEnd()
  await until(() => shown.test(screen()), 'the answer is shown', 20_000)
  return { screen, tmux }
}

/** Without what wrapping may change: spaces and line breaks. */
function bare(text: string): string {
  return text.replace(/\s+/g, '')
}

function inPieces(text: string, length: number): string[] {
  const characters = [...text]
  return Array.from({ length: Math.ceil(characters.length / length) }, (_, i) =>
    characters.slice(i * length, (i + 1) * length).join(''),
  )
}

testUnless(
  missingProgram('tmux -V'),
  'an answer is broken at words and loses nothing',
  { timeout: 90_000 },
  async (t) => {
    const { screen } = await screenOf(t, inPieces(ANSWER, 1))
    const lines = screen().split('\n')
    t.is(bare(lines.join('')), `${bare(ANSWER)}END`, 'every character is there, in its order')
    t.absent(
      lines.some((line) => widthOf(line) > COLUMNS),
      'within the terminal',
    )
    t.ok(lines.includes('The **quick** brown fox jumps'), lines.join('\n'))
    t.ok(lines.includes('over the `lazy` dog, and over'))
    t.ok(lines.includes('日本語のとても長い文章は単語'))
    t.ok(lines.includes('Café 👍🏽 naïve.'.normalize('NFD')) || lines.includes('Cafe\u0301 👍🏽 naïve.'))
    t.ok(lines.includes("  kept = ['as', 'it', 'is', 'h"), 'code is left to the terminal')
    for (const length of [2, 7, 1000]) {
      const other = await screenOf(t, inPieces(ANSWER, length))
      t.is(other.screen(), screen(), `the same in pieces of ${length}`)
    }
  },
)

testUnless(
  missingProgram('tmux -V'),
  'a terminal that is resized in an answer shows all of it',
  { timeout: 60_000 },
  async (t) => {
    const words = Array.from({ length: 300 }, (_, i) => `w${i} `)
    const { screen, tmux } = await screenOf(t, words, { until: /w40/ })
    tmux('resize-window', '-t', '0', '-x', '21', '-y', '120')
    await until(() => /w120/.test(screen()), 'it goes on')
    tmux('resize-window', '-t', '0', '-x', '53', '-y', '120')
    await until(() => /END/.test(screen()), 'all is shown')
    t.is(bare(screen()), `${bare(words.join(''))}END`)
  },
)

testUnless(
  missingProgram(NEEDS),
  'an answer sends a terminal nothing but its own styles',
  { timeout: 60_000 },
  async (t) => {
    const dir = await t.tmp()
    const file = join(dir, 'pieces.json')
    const hostile = '**bold** \x1b]0;title\x07\x1b[2J\u009b31m `code`\r\nnext \u202eline \x1b[6n\u0000'
    writeFileSync(file, JSON.stringify([hostile, ...hostile]))
    const show = async (args: string[], env = {}) => {
      const terminal = new Terminal(t, dir, [CHILD, file, ...args], { program: [process.execPath], env })
      await terminal.exited
      return terminal.raw
    }
    const clean = '**bold** ]0;title[2J31m `code`\nnext line [6n'
    const styled = await show([])
    t.ok(styled.includes('\x1b[1mbold\x1b[22m') && styled.includes('\x1b[36mcode\x1b[39m'), JSON.stringify(styled))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
    const left = styled.replace(/\x1b\[(?:1|22|2|36|39)m/g, '').replaceAll('\r\n', '\n')
    t.is(left, `${clean}${clean}\nEND\n`)
    const plain = `${clean}${clean}\nEND\n`.replaceAll('\n', '\r\n')
    t.is(await show(['plain']), plain, 'plain is plain')
    t.is(await show([], { NO_COLOR: '1' }), plain, 'without colours there are no styles')
    const piped = await runProgram([process.execPath, CHILD, file])
    t.is(piped.stdout, `${hostile}${hostile}\nEND\n`, 'a pipe gets it as it is')
  },
)
