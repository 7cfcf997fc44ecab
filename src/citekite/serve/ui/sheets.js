// @ts-check
// Style sheets of the parts of the page that are loaded when they are needed.

const sheets = {};

/** Load a style sheet beside this module, once; a part of the page waits for its own before it is shown. */
export function sheet(file) {
  sheets[file] ??= new Promise((done) => {
    const link = Object.assign(document.createElement("link"), {
      rel: "stylesheet", href: new URL(file, import.meta.url).href, onload: done, onerror: done,
    });
    document.head.append(link);
  });
  return sheets[file];
}
