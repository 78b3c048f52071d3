// Hands the page's token to every write that the dashboard's own script makes.
(() => {
  const token = document.querySelector('meta[name="csrf-token"]')?.content;
  if (!token) return;
  const plain = window.fetch;
  window.fetch = (resource, options = {}) => {
    const method = (options.method || "GET").toUpperCase();
    const url = new URL(resource instanceof Request ? resource.url : resource, location.href);
    if (method === "GET" || method === "HEAD" || url.origin !== location.origin)
      return plain(resource, options);
    const headers = new Headers(options.headers);
    headers.set("CSRF_HEADER", token);
    return plain(resource, { ...options, headers });
  };
})();

// A log-out, where a password is set.
document.addEventListener("DOMContentLoaded", () => {
  if (!document.querySelector('meta[name="log-out"]')) return;
  const form = document.createElement("form");
  form.method = "post";
  form.action = "/logout";
  form.id = "log-out";
  const button = document.createElement("button");
  button.textContent = "Log out";
  form.append(button);
  document.body.append(form);
});
