import type { FastifyInstance } from 'fastify'

/** Tells which methods a path has, whatever was asked of it: a router knows only what it finds. */
export class Routes {
  readonly #methods = new Map<string, Set<string>>()
  #patterns: [pattern: RegExp, methods: ReadonlySet<string>][] | undefined

  /** Call it before routes are added. */
  constructor(app: FastifyInstance) {
    app.addHook('onRoute', ({ url, method }) => {
      const known = this.#methods.get(url) ?? new Set(['OPTIONS'])
      for (const one of [method].flat()) known.add(one)
      this.#methods.set(url, known)
    })
  }

  /**
   * The methods of a path in their alphabet's order, OPTIONS among them; empty: there is no such path.
   * @param url as it was asked for, with its query
   */
  methodsOf(url: string): string[] {
    const path = pathOf(url)
    // All routes are there before the first request is.
    this.#patterns ??= [...this.#methods].map(([route, methods]) => [patternOf(route), methods])
    const found = this.#patterns.flatMap(([pattern, methods]) => (pattern.test(path) ? [...methods] : []))
    return [...new Set(found)].sort()
  }
}

function pathOf(url: string): string {
  const path = url.split('?', 1)[0] ?? ''
  try {
    return decodeURI(path)
  } catch {
    return path
  }
}

/** A route's path, where `:name` stands for one part and `*` for any, as a pattern. */
function patternOf(route: string): RegExp {
  const parts = route.split(/(:\w+|\*)/)
  const source = parts.map((part) =>
    part === '*' ? '.*' : part.startsWith(':') ? '[^/]+' : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'),
  )
  return new RegExp(`^${source.join('')}$`, 's')
}
