import test from 'brittle'
import { Tap } from './helpers/tap.js'

/** What the runner makes of a file's results. */

function read(text: string): { tap: Tap; shown: string } {
  const tap = new Tap()
  const shown = text.split('\n').flatMap((line) => tap.push(line))
  return { tap, shown: shown.join('\n') }
}

test('a test that asserts nothing has failed', (t) => {
  const { tap, shown } = read(
    '# good\n    ok 1 - it is so\nok 1 - good # time = 1ms\n\n# empty\nok 2 - empty # time = 1ms',
  )
  t.is(tap.passed, 1)
  t.is(tap.failed, 1)
  t.absent(shown.includes('good'))
  t.ok(/empty[\s\S]*without having asserted anything/.test(shown), 'the empty one is shown')
})

test('a skipped test is neither passed nor failed, and its name is kept', (t) => {
  const { tap, shown } = read('# by curl (there is no curl here)\nok 1 - by curl (there is no curl here) # SKIP\n1..1')
  t.alike(tap.skipped, ['by curl (there is no curl here)'])
  t.is(tap.passed + tap.failed, 0)
  t.is(shown, '')
  t.ok(tap.ended)
})

test('of a failed test everything it printed is shown, of others nothing', (t) => {
  const good = '# good\n    # a comment\n    ok 1 - it is so\nok 1 - good # time = 1ms\n'
  const { tap, shown } = read(`${good}# bad\n    # why\n    not ok 1 - it is not so\nnot ok 2 - bad # time = 1ms`)
  t.is(tap.passed, 1)
  t.is(tap.failed, 1)
  t.absent(tap.ended)
  t.is(shown, '# bad\n    # why\n    not ok 1 - it is not so\nnot ok 2 - bad # time = 1ms')
})
