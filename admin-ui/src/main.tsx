// The admin page: puts the parts together, and shows which of them there are for whom.
import { render } from "preact";
import "./app.css";
import { Connections } from "./connections";
import { Confirmation, notice } from "./dialog";
import { LostBanner, TopBar } from "./frame";
import { link, session, status, stayConnected } from "./live";
import { Namespaces } from "./namespaces";
import { Overview } from "./overview";
import { SignIn } from "./sign_in";
import { TryIt } from "./try_it";

function App() {
  return (
    <>
      <TopBar />
      <LostBanner />
      <main>
        {link.value.state === "sign-in" ? (
          <SignIn />
        ) : status.value ? (
          <Everything />
        ) : (
          <p class="waiting">Waiting for the server …</p>
        )}
      </main>
      <Confirmation />
      <div class="notice" role="status">
        {notice}
      </div>
    </>
  );
}

function Everything() {
  return (
    <>
      <Overview />
      <div class="below">
        <Namespaces />
        <Connections />
        {session.value && <TryIt publish={session.value.publish} />}
      </div>
    </>
  );
}

render(<App />, document.getElementById("app")!);
void stayConnected();
