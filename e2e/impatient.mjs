// Clicks twice, goes back, reloads: the page must stay right and give the file.
import { join } from 'node:path'
import { answer, fill, heading, person, prepare, readJob, save, saveLink, submitButton } from './lib.mjs'

const job = await readJob()
const context = await person()
const page = await context.newPage()
const problems = []
const file = (name) => join(job.dir, name + '.p12')

async function done(what) {
  await page.waitForLoadState()
  if (!(await saveLink(page).count())) problems.push(`${what}: no file, but "${await heading(page)}"`)
}

await page.goto(job.portal + '/p/rcd')
await fill(page, job)
await submitButton(page).dblclick()
await saveLink(page).waitFor()
await done('after a double click')
await save(page, file('double'))

await page.reload()
await done('after a reload')
await save(page, file('reload'))

await page.goBack()
await page.waitForLoadState()
const typedAfterBack = (await page.locator('[name=password]').count()) ? await page.inputValue('[name=password]') : ''
await prepare(page, job.portal, job)
await done('a second time')
await save(page, file('back'))
await page.goBack()
await page.goForward()
await done('back and forward')

answer({ doubleClick: file('double'), afterReload: file('reload'), afterBack: file('back'), typedAfterBack, problems })
await context.close()
