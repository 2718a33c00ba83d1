update pages set body = replace(body, 'vavles', 'valves') where slug = 'about';
