export type { CallContext } from './dispatcher.js'
export { Net } from './net.js'
