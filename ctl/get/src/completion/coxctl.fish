# Completion of coxctl for fish. Load it with: coxctl completion fish | source

function __coxctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    set -q lines[1]; or return
    set -l directive (string replace -r '^:' '' -- $lines[-1])
    string match -qr '^\d+$' -- $directive; or return
    set -e lines[-1]
    test (math "$directive % 2") -eq 1; and return

    # A value's candidates are for what follows the = of its flag.
    set -l lead (string match -r -- '^-[^=]*=' $current)
    set -l rest (string replace -- "$lead" '' $current)
    if test (math "floor($directive / 8) % 2") -eq 1
        set -l endings (string join '|' $lines)
        for file in (__fish_complete_path $rest)
            set -l path (string split \t -- $file)[1]
            if string match -q '*/' -- $path; or string match -qr "\.($endings)\$" -- $path
                echo "$lead$file"
            end
        end
        return
    end
    if test (math "floor($directive / 16) % 2") -eq 1
        for directory in (__fish_complete_directories $rest)
            echo "$lead$directory"
        end
        return
    end
    if not set -q lines[1]; and test (math "floor($directive / 4) % 2") -eq 0
        for file in (__fish_complete_path $rest)
            echo "$lead$file"
        end
        return
    end
    for line in $lines
        echo "$lead$line"
    end
    # fish puts a space after the only candidate, but not where there are two.
    if test (count $lines) -eq 1; and test (math "floor($directive / 2) % 2") -eq 1
        set -l value (string split \t -- $lines[1])[1]
        string match -qr '[@=/:.,]$' -- $value; or echo "$lead$value."
    end
end

complete -c coxctl -e
complete -c coxctl -f -k -a '(__coxctl_complete)'
