package promises

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/test/lab"
)

// Programs that know nothing of us go on as before, sealed: they are started
// before `sealmesh up` and not touched after.
//
//	sender: curl, psql, mariadb, ssh, nc ─────▶ receiver: nginx, PostgreSQL,
//	                                       ▲              MariaDB, sshd, a mail server
//	                                    tcpdump
//
// The last three speak first. None seals by itself but ssh, which says in clear
// what it is. Broken twin: the same clients before `sealmesh up`.
func TestRealPrograms(t *testing.T) {
	t.Parallel() // mostly waits
	for _, p := range []program{nginx, postgres, mariadb, openssh, mailServer} {
		t.Run(p.name, func(t *testing.T) {
			needs(t, p.needs...)
			m := newMesh(t)
			dir := openDir(t, p.user)
			p.start(t, m.Receiver, dir)
			awaitListener(t, m.Receiver, p.port)

			uplink := m.record(t, 2, "tcp port "+strconv.Itoa(p.port))
			p.use(t, m.Sender, m.Receiver, dir)
			clear := uplink.stop(t)
			for _, s := range p.secrets {
				if !clear.shows(t, s) {
					t.Errorf("unsealed, %q is not on the wire: the experiment proves nothing", s)
				}
			}

			m.start(t)
			uplink = m.record(t, 2, "tcp port "+strconv.Itoa(p.port))
			p.use(t, m.Sender, m.Receiver, dir)
			uplink.stop(t).wantSealed(t, m.Receiver, p.port, p.secrets...)
		})
	}
}

// program is a server and its client.
type program struct {
	name  string
	needs []string
	user  string // whom the server's directory belongs to
	port  int
	// start starts the server in a workload.
	start func(t *testing.T, w *lab.Workload, dir string)
	// use runs the client, and checks what it says.
	use func(t *testing.T, from, to *lab.Workload, dir string)
	// secrets are said on the wire in clear, in one piece.
	secrets []string
}

// openDir is a directory that any user can get to, and one can write to.
func openDir(t *testing.T, user string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) //nolint:gosec // for servers that are not root
	if user != "" {
		if out, err := exec.CommandContext(t.Context(), "chown", user, dir).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
	}
	return dir
}

// startServer runs a server in a workload until the test ends, and shows what it
// said if the test has failed.
func startServer(t *testing.T, w *lab.Workload, command ...string) {
	t.Helper()
	server := w.Command(t.Context(), command[0], command[1:]...)
	var said bytes.Buffer
	server.Stdout, server.Stderr = &said, &said
	must(t, server.Start())
	t.Cleanup(func() { // its context has ended by now
		_ = server.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", command[0], said.Bytes())
		}
	})
}

// output runs a client in a workload and returns what it prints.
func output(t *testing.T, w *lab.Workload, input string, command ...string) string {
	t.Helper()
	client := w.Command(t.Context(), command[0], command[1:]...)
	client.Stdin = strings.NewReader(input)
	client.Env = append(os.Environ(), "PGSSLMODE=disable", "PGGSSENCMODE=disable")
	out, err := client.Output()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(command, " "), err)
	}
	return string(out)
}

func wantOutput(t *testing.T, got, expected string) {
	t.Helper()
	if got != expected {
		t.Errorf("client prints %d bytes, %.200q, expected %d, %.200q", len(got), got, len(expected), expected)
	}
}

// long is an answer of half a megabyte.
var long = strings.Repeat("a long answer, line by line\n", 20_000)

var nginx = program{
	name: "nginx", needs: []string{"nginx", "curl"}, port: 80,
	start: func(t *testing.T, w *lab.Workload, dir string) {
		config := fmt.Sprintf(`daemon off; user root; worker_processes 1; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off;
	server { listen [::]:80 ipv6only=off; root %[1]s; }
}`, dir)
		must(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "short"), []byte("a short answer\n"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "long"), []byte(long), 0o644))
		startServer(t, w, "nginx", "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
	},
	use: func(t *testing.T, from, to *lab.Workload, _ string) {
		base := "http://" + to.Addr4.String()
		// One connection for all of it, kept alive.
		got := output(t, from, "", "curl", "-sS", "--fail", "-w", "%{num_connects} ", base+"/short", base+"/long", base+"/short")
		wantOutput(t, got, "a short answer\n1 "+long+"0 a short answer\n0 ")
		wantOutput(t, output(t, from, "", "curl", "-sS", "--fail", "http://["+to.Addr6.String()+"]/short"), "a short answer\n")
	},
	secrets: []string{"GET /short HTTP/1.1", "Server: nginx", "a short answer"},
}

var postgres = program{
	name: "PostgreSQL", needs: []string{"psql", "runuser"}, user: "postgres", port: 5432,
	start: func(t *testing.T, w *lab.Workload, dir string) {
		data, programs := filepath.Join(dir, "data"), postgresPrograms(t)
		output(t, w, "", "runuser", "-u", "postgres", "--",
			filepath.Join(programs, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--no-locale")
		hba := "local all all trust\nhost all all all trust\n"
		must(t, os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o644))
		startServer(t, w, "runuser", "-u", "postgres", "--",
			filepath.Join(programs, "postgres"), "-D", data, "-h", "*", "-k", dir, "-c", "fsync=off")
	},
	use: func(t *testing.T, from, to *lab.Workload, _ string) {
		for _, host := range []string{to.Addr4.String(), to.Addr6.String()} {
			got := output(t, from, "select 'the table says'; select repeat('long ', 50000);",
				"psql", "-h", host, "-U", "postgres", "-At", "-v", "ON_ERROR_STOP=1", "postgres")
			wantOutput(t, got, "the table says\n"+strings.Repeat("long ", 50_000)+"\n")
		}
	},
	secrets: []string{"select 'the table says'", "the table says"},
}

// postgresPrograms is where Debian keeps the newest PostgreSQL.
func postgresPrograms(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		needs(t, "initdb") // elsewhere
		path, err := exec.LookPath("initdb")
		must(t, err)
		return filepath.Dir(path)
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

// MariaDB's server greets before its client says anything.
var mariadb = program{
	name: "MariaDB", needs: []string{"mariadbd", "mariadb"}, user: "mysql", port: 3306,
	start: func(t *testing.T, w *lab.Workload, dir string) {
		startServer(t, w, "mariadbd", "--no-defaults", "--user=mysql", "--datadir="+dir, "--socket="+filepath.Join(dir, "socket"),
			"--port=3306", "--skip-grant-tables", "--skip-name-resolve")
	},
	use: func(t *testing.T, from, to *lab.Workload, _ string) {
		for _, host := range []string{to.Addr4.String(), to.Addr6.String()} {
			got := output(t, from, "", "mariadb", "--no-defaults", "--skip-ssl", "--protocol=tcp", "-N", "-B", "-h", host,
				"-e", "select 'the table says'; select repeat('long ', 50000)")
			wantOutput(t, got, "the table says\n"+strings.Repeat("long ", 50_000)+"\n")
		}
	},
	secrets: []string{"-MariaDB", "select 'the table says'", "the table says"},
}

var openssh = program{
	name: "OpenSSH", needs: []string{"sshd", "ssh", "ssh-keygen"}, port: 22,
	start: func(t *testing.T, w *lab.Workload, dir string) {
		for _, key := range []string{"host", "client"} {
			output(t, w, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
		}
		if err := os.Mkdir("/run/sshd", 0o755); err == nil { // sshd wants it
			t.Cleanup(func() { os.Remove("/run/sshd") })
		}
		path, err := exec.LookPath("sshd")
		must(t, err)
		startServer(t, w, path, "-D", "-e", "-f", "/dev/null", "-h", filepath.Join(dir, "host"),
			"-o", "AuthorizedKeysFile="+filepath.Join(dir, "client.pub"), "-o", "StrictModes=no", "-o", "UsePAM=no",
			"-o", "PermitRootLogin=prohibit-password", "-o", "PidFile=none")
	},
	use: func(t *testing.T, from, to *lab.Workload, dir string) {
		for _, host := range []string{to.Addr4.String(), to.Addr6.String()} {
			// What the remote side says of its addresses: the client's is kept.
			got := output(t, from, long, "ssh", "-F", "none", "-i", filepath.Join(dir, "client"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
				"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "root@"+host, "cat; echo $SSH_CLIENT | cut -d ' ' -f 1")
			client := from.Addr4
			if host == to.Addr6.String() {
				client = from.Addr6
			}
			wantOutput(t, got, long+client.String()+"\n")
		}
	},
	secrets: []string{"SSH-2.0-OpenSSH"},
}

var mailServer = program{
	name: "mail server", needs: []string{"socat", "nc"}, port: 25,
	start: func(t *testing.T, w *lab.Workload, dir string) {
		script := filepath.Join(dir, "serve")
		must(t, os.WriteFile(script, []byte(`#!/bin/sh
printf '220 mail.example ESMTP ready\r\n'
while read -r line; do
	case $line in
	QUIT*) printf '221 good bye\r\n'; exit ;;
	*) printf '250 go on\r\n' ;;
	esac
done
`), 0o755)) //nolint:gosec // a program
		startServer(t, w, "socat", "TCP6-LISTEN:25,ipv6only=0,reuseaddr,fork", "EXEC:"+script)
	},
	use: func(t *testing.T, from, to *lab.Workload, _ string) {
		for _, host := range []string{to.Addr4.String(), to.Addr6.String()} {
			got := output(t, from, "EHLO me.example\r\nQUIT\r\n", "nc", host, "25")
			wantOutput(t, got, "220 mail.example ESMTP ready\r\n250 go on\r\n221 good bye\r\n")
		}
	},
	secrets: []string{"220 mail.example ESMTP ready", "EHLO me.example"},
}
