// Goes back and forth between two zones that have names of their own at one address
// and port, as a person does who follows links, goes back and reloads.
import { answer, heading, person, readJob } from './lib.mjs'

const job = await readJob()
const context = await person({ more: ['--host-resolver-rules=' + job.names.map((n) => `MAP ${n} 127.0.0.1`).join(',')] })
const page = await context.newPage()
const answers = []
page.on('response', (r) => answers.push({ url: r.url(), status: r.status() }))
const seen = []
const note = async (what) => {
  await page.waitForLoadState()
  const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol)
  const text = await page.locator('body').innerText()
  seen.push({ what, url: page.url(), heading: await heading(page), protocol, text })
}

for (const [what, how] of job.steps) {
  if (what === 'goto') await page.goto(how)
  if (what === 'click') await Promise.all([page.waitForEvent('framenavigated'), page.locator(`a[href="${how}"]`).first().click()])
  if (what === 'back') await page.goBack()
  if (what === 'forward') await page.goForward()
  if (what === 'reload') await page.reload()
  await note(`${what} ${how ?? ''}`.trim())
}
answer({ seen, answers })
await context.close()
