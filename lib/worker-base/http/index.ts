export { Http, httpConfigSchema } from './http.js'
export { Routes } from './routes.js'
