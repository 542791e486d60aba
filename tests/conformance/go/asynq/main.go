// Command asynq is asynq itself, driven from outside: a client, an inspector, a server and a scheduler.
//
//	asynq ask URL                answers questions: a JSON document per line of input, one per line of output
//	asynq serve URL SETTINGS     runs tasks until its input ends, and tells what it does, a JSON document a line
//	asynq schedule URL SETTINGS  enqueues periodic tasks likewise
//
// URL is redis://host:port/db, or redis+cluster://host:port,host:port. SETTINGS are JSON.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 2 {
		return fmt.Errorf("usage: asynq ask|serve|schedule URL [SETTINGS]")
	}
	redis, err := connection(arguments[1])
	if err != nil {
		return err
	}
	settings := []byte("{}")
	if len(arguments) > 2 {
		settings = []byte(arguments[2])
	}
	switch arguments[0] {
	case "ask":
		return ask(redis, os.Stdin, os.Stdout)
	case "serve":
		return serve(redis, settings)
	case "schedule":
		return schedule(redis, settings)
	}
	return fmt.Errorf("unknown role %q", arguments[0])
}

func connection(url string) (asynq.RedisConnOpt, error) {
	if addresses, is := strings.CutPrefix(url, "redis+cluster://"); is {
		return asynq.RedisClusterClientOpt{Addrs: strings.Split(addresses, ",")}, nil
	}
	return asynq.ParseRedisURI(url)
}

// tell writes one line at once, so that it is there also when this process is killed.
func tell(fact any) {
	line, err := json.Marshal(fact)
	if err == nil {
		_, err = os.Stdout.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// untilInputEnds returns when whoever started this process closes its input, or dies.
func untilInputEnds() {
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func seconds(count float64) time.Duration {
	return time.Duration(count * float64(time.Second))
}
