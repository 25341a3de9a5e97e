/* The parts of the data: inside the page, or scripts in data/ beside it. */

const loaded = new Map(); // name of a part → promise of it
const handed = new Map(); // what a script of data/ handed over

// Called by the scripts in data/.
window.part = (name, value) => handed.set(name, value);

export function load(name) {
  if (!loaded.has(name)) loaded.set(name, read(name));
  return loaded.get(name);
}

function read(name) {
  const inline = document.querySelector(`script[data-part="${name}"]`);
  if (inline) return Promise.resolve(JSON.parse(inline.textContent));
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `data/${name.replaceAll("/", "-")}.js`;
    script.onload = () => resolve(handed.get(name));
    script.onerror = () => {
      const source = script.getAttribute("src");
      reject(new Error(`${source} cannot be read: keep the folder "data" beside index.html.`));
    };
    document.head.append(script);
  });
}
