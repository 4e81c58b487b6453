import test from 'brittle'
import { CHECK_MS, SILENT_MS, Silence } from '../lib/link/silence.js'

/** Looks at it every CHECK_MS until `end`. @returns the silence at the last look */
function lookUntil(silence: Silence, from: number, end: number): number {
  let silentMs = 0
  for (let now = from + CHECK_MS; now <= end; now += CHECK_MS) silentMs = silence.look(now)
  return silentMs
}

test('silence is the time since the other side was heard', (t) => {
  const silence = new Silence(1000)
  t.is(lookUntil(silence, 1000, 2500), 1500)
  silence.heard(2550)
  t.is(lookUntil(silence, 2500, 3000), 450)
})

test('what this process slept through does not count, and the others get one turn more', (t) => {
  const silence = new Silence(0)
  t.is(lookUntil(silence, 0, 1000), 1000)
  const pauseMs = 2000
  t.is(silence.look(1000 + pauseMs), 1000 + CHECK_MS, 'two seconds of its own')
  t.is(lookUntil(silence, 1000 + pauseMs, 3000 + pauseMs), 3000 + CHECK_MS, 'and it goes on from there')
})

test('after a pause that must have cost the link, one second is left to hear that it has not', (t) => {
  const silence = new Silence(0)
  const wake = 3_600_000
  t.is(silence.look(wake), SILENT_MS - 1000)
  t.is(lookUntil(silence, wake, wake + 1000), SILENT_MS)
  silence.heard(wake + 1050)
  t.is(lookUntil(silence, wake + 1000, wake + 1500), 450, 'who is heard keeps it')
})

test('a look that is a little late counts', (t) => {
  const silence = new Silence(0)
  t.is(silence.look(CHECK_MS + 400), CHECK_MS + 400)
})

test('one who is heard in the moment after a pause is not taken for heard in the future', (t) => {
  const silence = new Silence(0)
  silence.look(CHECK_MS)
  const wake = 2000
  silence.heard(wake)
  t.is(silence.look(wake), 0)
  t.is(lookUntil(silence, wake, wake + 3000), 3000, 'its silence is noticed in time')
})
